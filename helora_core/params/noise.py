"""How much noise each CKKS operation adds, as standard deviations over slots in units of 1/scale.

A polynomial whose coefficients are independent with variance v has slots (values at roots of unity) of variance N·v,
half of it in the real part. Real results keep the real part only. The average-case terms are those of Cheon, Kim, Kim
and Song (ASIACRYPT 2017) and of the RNS variant (Cheon, Han, Kim, Kim and Song, SAC 2018), whose papers give worst-case
constants instead of the variances used here. The secret is ternary: variance 2/3 per coefficient.

A slot of rounding times the secret, or of digits times a key's errors, is a product of two complex normal numbers, one
of which stays the same as long as the key: its real part has Laplace's distribution, and for one key some slots are
several times noisier than others. ``helora_core.compiler.precision`` bounds such noise by that distribution's tail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

ERROR_STD = math.sqrt(10.5)
"""Standard deviation of a coefficient of the RLWE error: the largest in use, 3.24, of the ones among 21 bits less those
among 21 others (SEAL, helora-rns). OpenFHE's is 3.19; the security tables assume 3.19 or 3.2."""

_SECRET_VARIANCE = 2 / 3
_ROUNDING_VARIANCE = 1 / 12
_FLOOR_VARIANCE = 1 / 12 + 1 / 4


@dataclass(frozen=True)
class NoiseModel:
    """The choices by which libraries differ in their noise, for one backend.

    Attributes:
        public_encryption: The client encrypts with a public key.
        keyswitch_floors: The division that ends a key switch rounds down, and random bits are added to make up for the
            mean loss: each coefficient is off by a random bit minus a number uniform on [0, 1).
        centred_digits: The digits of a key switch go from -q/2 to q/2 instead of 0 to q, so no slot is noisier than the
            others.
        nominal_scales: The library calls every scale 2^bits, whatever primes it divides by.
    """

    public_encryption: bool = False
    keyswitch_floors: bool = False
    centred_digits: bool = False
    nominal_scales: bool = False

    @classmethod
    def noisiest(cls, models: Iterable[NoiseModel]) -> NoiseModel:
        """A model that is as noisy as the noisiest of them in every respect."""
        models = list(models)
        return cls(
            public_encryption=any(each.public_encryption for each in models),
            keyswitch_floors=any(each.keyswitch_floors for each in models),
            centred_digits=bool(models) and all(each.centred_digits for each in models),
            nominal_scales=any(each.nominal_scales for each in models),
        )


USUAL_NOISE = NoiseModel()
"""The model of a backend that encrypts with the secret key and rounds to the nearest."""


def _real_slot_std(ring_degree: int, coefficient_variance: float) -> float:
    return math.sqrt(ring_degree * coefficient_variance / 2)


def encoding_std(ring_degree: int) -> float:
    """Noise of rounding a plaintext's coefficients to integers."""
    return _real_slot_std(ring_degree, _ROUNDING_VARIANCE)


def slot_encoding_std(ring_degree: int) -> float:
    """Noise of rounding a plaintext whose slots are real.

    Its polynomial is its own conjugate, and so is the rounding error: the error's slots are real, with no imaginary
    part to take half of their variance.
    """
    return math.sqrt(ring_degree * _ROUNDING_VARIANCE)


def encryption_std(ring_degree: int) -> float:
    """The error of a fresh symmetric encryption."""
    return _real_slot_std(ring_degree, ERROR_STD**2)


def public_encryption_std(ring_degree: int) -> float:
    """The error of a fresh public-key encryption, u·e + e₀ + e₁·s with ternary u and s."""
    return _real_slot_std(ring_degree, ERROR_STD**2 * (1 + 2 * ring_degree * _SECRET_VARIANCE))


def rescale_std(ring_degree: int) -> float:
    """Noise of rounding both polynomials after a division; the second is multiplied by the secret."""
    return _real_slot_std(ring_degree, _ROUNDING_VARIANCE * (1 + ring_degree * _SECRET_VARIANCE))


def dropped_std(ring_degree: int, bits: int) -> float:
    """Noise of rounding the first polynomial of a result, of integers, to multiples of 2^bits, ties to either side."""
    return _real_slot_std(ring_degree, (4.0**bits + 2) / 12) if bits else 0.0


def dropped_times_secret_std(ring_degree: int, bits: int) -> float:
    """Noise of rounding the second polynomial likewise: the secret multiplies it."""
    return dropped_std(ring_degree, bits) * math.sqrt(ring_degree * _SECRET_VARIANCE)


def keyswitch_std(
    ring_degree: int,
    data_bits: tuple[int, ...],
    special_bits: int,
    *,
    floors: bool = False,
    centred: bool = False,
) -> float:
    """Noise of a key switch: an RLWE error times each digit, over the special prime, plus that division's rounding.

    This is the root mean square over the slots; see ``keyswitch_worst_std``.

    Args:
        ring_degree: N.
        data_bits: Bit lengths of the remaining data primes; each gives one digit.
        special_bits: Bit length of the special primes together.
        floors: As ``NoiseModel.keyswitch_floors``.
        centred: As ``NoiseModel.centred_digits``.
    """
    return _keyswitch_std(ring_degree, data_bits, special_bits, ring_degree / (12 if centred else 3), floors)


def keyswitch_worst_std(
    ring_degree: int,
    data_bits: tuple[int, ...],
    special_bits: int,
    *,
    floors: bool = False,
    centred: bool = False,
) -> float:
    """Noise of a key switch in the slot where it is largest: slot 0, or any if the digits are centred.

    Digits from 0 to q have a mean of q/2 in every coefficient, which makes q/2·(1 + x + … + x^(N−1)), whose value at
    ζ is q/(1 − ζ), of size N·q/π, against a root mean square of q·sqrt(N/3). (Measured on SEAL: the error after a
    rotation at N=8192 is over ten times larger in slot 0 than in most.) Centred digits have no mean; by the key, any
    slot may be noisier than most, which the tail of Laplace's distribution is for.
    """
    square = ring_degree / 12 if centred else (ring_degree / math.pi) ** 2
    return _keyswitch_std(ring_degree, data_bits, special_bits, square, floors)


def _keyswitch_std(
    ring_degree: int, data_bits: tuple[int, ...], special_bits: int, digit_square: float, floors: bool
) -> float:
    """Noise of a key switch, where ``digit_square`` is the mean square of a digit's slot, for digits below 1."""
    division = rescale_std(ring_degree) * (math.sqrt(_FLOOR_VARIANCE / _ROUNDING_VARIANCE) if floors else 1.0)
    digits = sum(ERROR_STD**2 * digit_square * 4.0 ** (bits - special_bits) for bits in data_bits)
    return math.hypot(_real_slot_std(ring_degree, digits), division)
