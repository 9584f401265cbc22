"""Stands in for the library: values in the clear, with the noise that CKKS would add. It encrypts nothing.

Delete this module when ``backend`` no longer imports it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from numpy.typing import NDArray

Slots = NDArray[np.float64]

# The first twelve primes as Miller-Rabin bases decide every number below 3.3e24 (Sorenson and Webster, 2015).
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


class Emulation:
    """What a library has as context, encoder, encryptor and evaluator."""

    def __init__(self, params: CKKSParams) -> None:
        self._params = params
        self._rng = np.random.default_rng()

    def secret_key(self) -> bytes:
        return secrets.token_bytes(32)

    def rotation_key(self, secret_key: bytes, step: int) -> bytes:
        return step.to_bytes(32, "little")

    def encode(self, values: Slots, scale: float) -> Slots:
        slots = np.zeros(self._params.slots)
        slots[: values.size] = values
        return self._noisy(slots, noise.encoding_std(self._params.ring_degree), scale)

    def encrypt(self, secret_key: bytes, plaintext: Slots, scale: float) -> Slots:
        return self._noisy(plaintext, noise.encryption_std(self._params.ring_degree), scale)

    def decrypt(self, secret_key: bytes, ciphertext: Slots) -> Slots:
        return ciphertext

    def decode(self, plaintext: Slots, scale: float) -> Slots:
        return plaintext.copy()

    def rotate(self, ciphertext: Slots, rotation_key: bytes, level: int, scale: float) -> Slots:
        bits, special_bits = self._params.data_bits[: level + 1], self._params.special_bits
        std = noise.keyswitch_std(self._params.ring_degree, bits, sum(special_bits) or max(bits))
        return self._noisy(np.roll(ciphertext, -int.from_bytes(rotation_key, "little")), std, scale)

    def rescale(self, ciphertext: Slots, scale: float) -> Slots:
        return self._noisy(ciphertext, noise.rescale_std(self._params.ring_degree), scale)

    def to_bytes(self, ciphertext: Slots) -> bytes:
        return ciphertext.astype("<f8").tobytes()

    def from_bytes(self, payload: bytes) -> Slots:
        slots: Slots = np.frombuffer(payload, "<f8").astype(np.float64)
        if slots.size != self._params.slots or not np.isfinite(slots).all():
            raise ValueError(f"{len(payload)} bytes are not {self._params.slots} slots")
        return slots

    def _noisy(self, slots: Slots, std: float, scale: float) -> Slots:
        return slots + self._rng.normal(0.0, std / scale, slots.size)


def ntt_primes(bits: Sequence[int], ring_degree: int) -> tuple[int, ...]:
    """The largest primes of these bit lengths that are 1 mod 2N, all different.

    Raises:
        ValueError: There are too few.
    """
    primes: list[int] = []
    for size in bits:
        for candidate in range((1 << size) - 2 * ring_degree + 1, 1 << (size - 1), -2 * ring_degree):
            if candidate not in primes and _is_prime(candidate):
                primes.append(candidate)
                break
        else:
            raise ValueError(f"too few primes of {size} bits are 1 mod {2 * ring_degree}")
    return tuple(primes)


def _is_prime(number: int) -> bool:
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    odd = (number - 1) >> twos
    return all(
        number == base
        or pow(base, odd, number) == 1
        or any(pow(base, odd << doublings, number) == number - 1 for doublings in range(twos))
        for base in _BASES
    )
