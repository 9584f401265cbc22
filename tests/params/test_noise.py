"""The formulas against polynomials drawn at random: a wrong constant, a forgotten term or a wrong power shows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.params.noise import (
    ERROR_STD,
    NoiseModel,
    encoding_std,
    encryption_std,
    keyswitch_std,
    keyswitch_worst_std,
    public_encryption_std,
    rescale_std,
    slot_encoding_std,
)

Coefficients = NDArray[np.float64]
Values = NDArray[np.complex128]

DEGREES = (8, 128)
"""In the small ring the terms that do not grow with N show; in the large one those that do."""
COEFFICIENTS = 1 << 19
TOLERANCE = 0.02
"""Several times the statistical error of so many coefficients, and a fraction of what a wrong constant makes."""


def values(polynomials: Coefficients) -> Values:
    """Values at the primitive 2N-th roots of unity, each slot and its mirror, of coefficients (samples, N)."""
    n = polynomials.shape[1]
    twisted = polynomials * np.exp(1j * np.pi * np.arange(n) / n)
    evaluated: Values = n * np.fft.ifft(twisted, axis=1)
    return evaluated


def real_std(evaluated: Values) -> float:
    return float(np.sqrt(np.mean(evaluated.real**2)))


class Draw:
    """Polynomials of the kinds that CKKS draws, as coefficients of shape (samples, degree)."""

    def __init__(self, degree: int, samples: int | None = None) -> None:
        self._rng = np.random.default_rng(degree)
        self._size = (samples or COEFFICIENTS // degree, degree)

    def error(self) -> Coefficients:
        return np.rint(self._rng.normal(0, ERROR_STD, self._size))

    def rounding(self) -> Coefficients:
        return self._rng.uniform(-0.5, 0.5, self._size)

    def secret(self) -> Coefficients:
        return self._rng.integers(-1, 2, self._size).astype(np.float64)

    def digit(self, bits: int) -> Coefficients:
        return self._rng.integers(0, 1 << bits, self._size).astype(np.float64)

    def floored(self) -> Coefficients:
        """What rounding down takes off, with random bits added for its mean."""
        return self._rng.uniform(0, 1, self._size) - self._rng.integers(0, 2, self._size)

    def centred_digit(self, bits: int) -> Coefficients:
        return self.digit(bits) - 2.0 ** (bits - 1)

    def rounded_division(self, *, floors: bool = False) -> Values:
        """What rounding both halves of a ciphertext leaves after decryption."""
        one, other = (values(self.floored() if floors else self.rounding()) for _ in range(2))
        return one + other * values(self.secret())

    def keyswitch(
        self, data_bits: tuple[int, ...], special_bits: int, *, floors: bool = False, centred: bool = False
    ) -> Values:
        """Each digit times a fresh RLWE error, divided by the special prime, and the rounding of that division."""
        noise = self.rounded_division(floors=floors)
        for bits in data_bits:
            noise += (
                values(self.centred_digit(bits) if centred else self.digit(bits))
                * values(self.error())
                / 2**special_bits
            )
        return noise


def test_values_are_those_of_the_polynomial_at_the_odd_roots() -> None:
    polynomial = np.array([[3.0, -1.0, 4.0, 1.5]])
    roots = np.exp(1j * np.pi * np.arange(1, 8, 2) / 4)
    assert values(polynomial)[0] == pytest.approx(np.polyval(polynomial[0, ::-1], roots))


@pytest.mark.parametrize("degree", DEGREES)
def test_encoding_noise_is_that_of_rounded_coefficients(degree: int) -> None:
    assert encoding_std(degree) == pytest.approx(real_std(values(Draw(degree).rounding())), rel=TOLERANCE)


@pytest.mark.parametrize("degree", DEGREES)
def test_of_real_slots_the_rounding_is_real_too(degree: int) -> None:
    """Coefficients k and N − k are each other's negatives, and so are their roundings: nothing is left in between."""
    polynomials = Draw(degree).digit(20) + Draw(degree).rounding()
    polynomials[:, degree // 2] = 0.0
    polynomials[:, degree // 2 + 1 :] = -polynomials[:, 1 : degree // 2][:, ::-1]
    assert np.max(np.abs(values(polynomials).imag)) < 2.0**-20
    moved = values(np.rint(polynomials) - polynomials)
    assert np.max(np.abs(moved.imag)) < 2.0**-20
    # The one coefficient that is always zero shows in a ring of eight.
    expected = slot_encoding_std(degree) * math.sqrt(1 - 1 / degree)
    assert expected == pytest.approx(real_std(moved), rel=TOLERANCE)


@pytest.mark.parametrize("degree", DEGREES)
def test_encryption_noise_is_that_of_one_error_polynomial(degree: int) -> None:
    assert encryption_std(degree) == pytest.approx(real_std(values(Draw(degree).error())), rel=TOLERANCE)


@pytest.mark.parametrize("degree", DEGREES)
def test_public_key_encryption_noise_is_that_of_three_errors_two_of_them_times_a_ternary(degree: int) -> None:
    draw = Draw(degree)
    e, e0, e1 = (values(draw.error()) for _ in range(3))
    noise = values(draw.secret()) * e + e0 + e1 * values(draw.secret())
    assert public_encryption_std(degree) == pytest.approx(real_std(noise), rel=TOLERANCE)


@pytest.mark.parametrize("degree", DEGREES)
def test_rescaling_noise_is_rounding_times_one_plus_the_secret(degree: int) -> None:
    assert rescale_std(degree) == pytest.approx(real_std(Draw(degree).rounded_division()), rel=TOLERANCE)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize(
    ("data_bits", "special_bits"),
    [((20, 20, 20), 20), ((20, 21), 18), ((10,), 30)],
)
def test_key_switching_noise_is_that_of_digits_times_errors(
    degree: int, data_bits: tuple[int, ...], special_bits: int
) -> None:
    for floors, centred in itertools.product((False, True), repeat=2):
        sampled = real_std(Draw(degree).keyswitch(data_bits, special_bits, floors=floors, centred=centred))
        found = keyswitch_std(degree, data_bits, special_bits, floors=floors, centred=centred)
        assert found == pytest.approx(sampled, rel=TOLERANCE)


def test_the_noisiest_of_some_models_does_whatever_one_of_them_does() -> None:
    ways = ("public_encryption", "keyswitch_floors", "nominal_scales")
    alone = [NoiseModel(**{way: True}) for way in ways]
    assert [NoiseModel.noisiest([NoiseModel(), each]) for each in alone] == alone
    assert NoiseModel.noisiest(alone) == NoiseModel(**dict.fromkeys(ways, True))
    assert NoiseModel.noisiest([]) == NoiseModel()


def test_some_models_have_centred_digits_only_if_all_of_them_do() -> None:
    centred = NoiseModel(centred_digits=True)
    assert NoiseModel.noisiest([centred, centred]) == centred
    assert NoiseModel.noisiest([centred, NoiseModel()]) == NoiseModel()


def test_key_switching_noise_is_largest_in_slot_0() -> None:
    """Digits are not centred. Slot 0 stands first among the values, and last its mirror."""
    sampled = Draw(128, samples=16_000).keyswitch((20, 20), 20)
    by_slot = np.sqrt(np.mean(sampled.real**2, axis=0))
    assert set(np.argsort(by_slot)[-2:]) == {0, 127}
    assert keyswitch_worst_std(128, (20, 20), 20) == pytest.approx(by_slot[0], rel=TOLERANCE)


def test_with_centred_digits_no_slot_is_noisier_than_the_others() -> None:
    sampled = Draw(128, samples=16_000).keyswitch((20, 20), 20, centred=True)
    by_slot = np.sqrt(np.mean(sampled.real**2, axis=0))
    worst = keyswitch_worst_std(128, (20, 20), 20, centred=True)
    assert worst == keyswitch_std(128, (20, 20), 20, centred=True)
    assert by_slot == pytest.approx(np.full(128, worst), rel=3 * TOLERANCE)


def test_the_error_is_as_wide_as_the_widest_in_use_and_hardly_wider_than_the_security_tables_assume() -> None:
    """Centred binomial errors of 21 bits less 21 have a variance of 42/4."""
    assert pytest.approx(math.sqrt(42 / 4)) == ERROR_STD
    assert 3.2 <= ERROR_STD <= 1.02 * 3.19


@pytest.mark.parametrize("degree", [4096, 32768])
def test_noise_grows_with_the_ring_as_the_root_or_where_the_secret_enters_in_proportion(degree: int) -> None:
    assert encoding_std(4 * degree) == pytest.approx(2 * encoding_std(degree))
    assert encryption_std(4 * degree) == pytest.approx(2 * encryption_std(degree))
    assert rescale_std(4 * degree) == pytest.approx(4 * rescale_std(degree), rel=1e-3)


def test_a_special_prime_much_longer_than_the_digits_leaves_the_rounding_alone() -> None:
    assert keyswitch_std(8192, (30, 30), 60) == pytest.approx(rescale_std(8192), rel=1e-6)
    # A uniform number less a bit: a variance of 1/12 + 1/4 in place of 1/12.
    assert keyswitch_std(8192, (30, 30), 60, floors=True) == pytest.approx(2 * rescale_std(8192), rel=1e-6)


def test_the_longest_digit_decides() -> None:
    lone, mixed = keyswitch_std(8192, (60,), 60), keyswitch_std(8192, (60, 40, 40), 60)
    assert mixed == pytest.approx(lone, rel=1e-9)
    longer = math.sqrt(keyswitch_std(8192, (70,), 60) ** 2 - rescale_std(8192) ** 2)
    assert longer == pytest.approx(2**10 * math.sqrt(lone**2 - rescale_std(8192) ** 2))
