"""Exact integer polynomials modulo the primes of a level, as ``Encoding.INTEGERS`` carries them.

A polynomial with integer coefficients modulo Q = Π p is an array of its residues: uint64, shape (primes, N), row i
below prime i. Doubles carry 53 bits of a coefficient and Q has a hundred or more, so values that must be exact are kept
in this form from end to end. (Residue number systems and the way back by mixed radix: Garner, IRE Trans. EC-8 (1959).)
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helora_core.backend import ntt
from helora_core.backend.ntt import Residues

LIMB_BITS = 48

Limbs = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Integers:
    """Integers of any size, in limbs: the coefficients of an encoded polynomial, which is values times the scale.

    Attributes:
        limbs: int64, shape (k, N): the integers are Σ limbs[j] · 2^(48·j). Limbs may be negative; their size is below
            2^62, so that the sum of two fits.
    """

    limbs: Limbs

    @classmethod
    def of_values(cls, values: NDArray[np.float64], scale: float) -> Integers:
        """Values times the scale, a power of two, rounded to the nearest integer, halves to even; no other loss."""
        rest = values * scale
        largest = float(np.max(np.abs(rest), initial=1.0))
        limbs = np.zeros((max(1, -(-math.frexp(largest)[1] // LIMB_BITS)), values.size), dtype=np.int64)
        for j in range(len(limbs) - 1, 0, -1):
            top = np.trunc(np.ldexp(rest, -LIMB_BITS * j))
            limbs[j] = top.astype(np.int64)
            rest = rest - np.ldexp(top, LIMB_BITS * j)
        limbs[0] = np.rint(rest).astype(np.int64)
        return cls(limbs)

    def plus(self, other: Integers) -> Integers:
        """The sums, element by element."""
        count = max(len(self.limbs), len(other.limbs))
        return Integers(_padded(self.limbs, count) + _padded(other.limbs, count))

    def residues(self, primes: Sequence[int]) -> Residues:
        """The integers modulo each of the primes."""
        return np.stack([self._modulo(prime) for prime in primes])

    def _modulo(self, prime: int) -> Residues:
        total = np.zeros(self.limbs.shape[1], dtype=np.uint64)
        for j, limb in enumerate(self.limbs):
            shifted = ntt.times((limb % prime).astype(np.uint64), 1 << (LIMB_BITS * j), prime)
            total = (total + shifted) % np.uint64(prime)
        return total

    def exact(self) -> list[int]:
        """The integers as Python's."""
        return [sum(int(limb) << (LIMB_BITS * j) for j, limb in enumerate(limbs)) for limbs in self.limbs.T]


def _padded(limbs: Limbs, count: int) -> Limbs:
    return np.pad(limbs, ((0, count - len(limbs)), (0, 0)))


def values_of(residues: Residues, primes: Sequence[int], scale: float) -> NDArray[np.float64]:
    """The residues as integers closest to zero, divided by the scale: float64, shape (N,), right to the last bits."""
    half = _digits_of(math.prod(primes) // 2, primes)
    negative = _larger(_mixed_radix(residues, primes), half)
    sizes = np.stack(
        [np.where(negative & (row > 0), np.uint64(p) - row, row) for row, p in zip(residues, primes, strict=True)]
    )
    total = np.zeros(residues.shape[1])
    for digit, prime in zip(_mixed_radix(sizes, primes)[::-1], primes[::-1], strict=True):
        total = total * float(prime) + digit.astype(np.float64)
    return np.where(negative, -total, total) / scale


def times(residues: Residues, factor: int, primes: Sequence[int]) -> Residues:
    """A polynomial times an integer."""
    return np.stack([ntt.times(row, factor, prime) for row, prime in zip(residues, primes, strict=True)])


def negative(residues: Residues, primes: Sequence[int]) -> Residues:
    """A polynomial times minus one."""
    return times(residues, -1, primes)


def uniform(primes: Sequence[int], count: int) -> Residues:
    """Residues uniform modulo each prime, and so modulo their product, from the operating system's generator."""
    return np.stack([_uniform(prime, count) for prime in primes])


def _uniform(prime: int, count: int) -> Residues:
    """Uniform residues. Words beyond the last multiple of the prime are drawn again, so that all are equally likely."""
    words = np.frombuffer(secrets.token_bytes(8 * count), dtype=np.uint64).copy()
    limit = np.uint64((1 << 64) // prime * prime - 1)
    while (beyond := np.flatnonzero(words > limit)).size:
        words[beyond] = np.frombuffer(secrets.token_bytes(8 * beyond.size), dtype=np.uint64)
    residues: Residues = words % np.uint64(prime)
    return residues


def _mixed_radix(residues: Residues, primes: Sequence[int]) -> list[Residues]:
    """Digits d with x = d₀ + p₀·(d₁ + p₁·(d₂ + …)), each below its prime."""
    digits: list[Residues] = []
    for i, prime in enumerate(primes):
        rest = residues[i]
        for digit, smaller in zip(digits, primes, strict=False):
            rest = ntt.times(rest + (np.uint64(prime) - digit % np.uint64(prime)), pow(smaller, -1, prime), prime)
        digits.append(rest)
    return digits


def _digits_of(integer: int, primes: Sequence[int]) -> list[int]:
    digits = []
    for prime in primes:
        integer, digit = divmod(integer, prime)
        digits.append(digit)
    return digits


def _larger(digits: Sequence[Residues], bound: Sequence[int]) -> NDArray[np.bool_]:
    larger = np.zeros(digits[0].shape, dtype=bool)
    equal = ~larger
    for digit, of_bound in zip(digits[::-1], bound[::-1], strict=True):
        larger |= equal & (digit > np.uint64(of_bound))
        equal &= digit == np.uint64(of_bound)
    return larger
