"""Polynomials modulo 2^64·q₁, as words modulo 2^64 and residues modulo the primes of q₁, and exact products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helora_core.backend import ntt
from helora_core.backend.correlations import WRAP_BITS, Integers, Words

_LIMB_BITS = 22
_TERMS = 256
"""256 products of a limb and an integer below 2^23 in size sum to less than 2^53, which doubles hold exactly."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """Polynomials modulo 2^64·q₁.

    Attributes:
        words: Their coefficients modulo 2^64: uint64, shape (rows, N).
        residues: Their coefficients modulo each prime of q₁: uint64, shape (rows, N) each.
        primes: The primes.
    """

    words: Words
    residues: tuple[Words, ...]
    primes: tuple[int, ...]

    @classmethod
    def of_integers(cls, integers: Integers, primes: Sequence[int]) -> Mixed:
        """Polynomials with these integers as coefficients."""
        residues = tuple((integers % prime).astype(np.uint64) for prime in primes)
        return cls(integers.astype(np.uint64), residues, tuple(primes))

    @classmethod
    def uniform(cls, rng: np.random.Generator, shape: tuple[int, ...], primes: Sequence[int]) -> Mixed:
        """Uniform coefficients."""
        residues = tuple(rng.integers(0, prime, shape, dtype=np.uint64) for prime in primes)
        return cls(uniform_words(rng, shape), residues, tuple(primes))

    @classmethod
    def flood(cls, rng: np.random.Generator, shape: tuple[int, ...], primes: Sequence[int]) -> Mixed:
        """Integers that are uniform over −⌊q₁/4⌋ … ⌊q₁/4⌋."""
        bound = math.prod(primes) // 4
        high, low = uniform_below(rng, 2 * bound + 1, shape)
        residues = []
        for prime in primes:
            lifted = ntt.times(high, 1 << WRAP_BITS, prime) + low % np.uint64(prime)
            residues.append((lifted + np.uint64(-bound % prime)) % np.uint64(prime))
        return cls(low - np.uint64(bound % (1 << WRAP_BITS)), tuple(residues), tuple(primes))

    def plus(self, other: Mixed) -> Mixed:
        """The sum."""
        rows = zip(self.residues, other.residues, self.primes, strict=True)
        residues = tuple((a + b) % np.uint64(prime) for a, b, prime in rows)
        return Mixed(self.words + other.words, residues, self.primes)

    def minus(self, other: Mixed) -> Mixed:
        """The difference."""
        rows = zip(self.residues, other.residues, self.primes, strict=True)
        residues = tuple((a + (np.uint64(prime) - b)) % np.uint64(prime) for a, b, prime in rows)
        return Mixed(self.words - other.words, residues, self.primes)

    def turned(self, steps: int) -> Mixed:
        """Times x^steps, for 0 to 2N − 1: x^N is −1."""
        rows = zip(self.residues, self.primes, strict=True)
        return Mixed(turned(self.words, steps), tuple(turned(row, steps, p) for row, p in rows), self.primes)

    def combined(self, matrix: Integers) -> Mixed:
        """``matrix`` times the polynomials, one a row. The matrix' numbers are below 2^23 in size."""
        words = np.zeros((len(matrix), self.words.shape[1]), dtype=np.uint64)
        for shift, product in _limb_products(matrix, self.words, WRAP_BITS):
            words += product.astype(np.uint64) << np.uint64(shift)
        residues = []
        for prime, row in zip(self.primes, self.residues, strict=True):
            total = np.zeros_like(words)
            for shift, product in _limb_products(matrix, row, prime.bit_length()):
                total += ntt.times((product % prime).astype(np.uint64), 1 << shift, prime)
            residues.append(total % np.uint64(prime))
        return Mixed(words, tuple(residues), self.primes)

    def divided(self) -> tuple[Words, Words]:
        """⌊c/q₁⌋ modulo 2^64, and the first bits of what is left: ⌊p·(c mod q₁)/q₁⌋ for p the first prime."""
        digits: list[Words] = []  # mixed radix, the first prime last: Garner, IRE Trans. EC-8 (1959)
        order = (*self.primes[1:], self.primes[0])
        left, radix = np.zeros_like(self.words), 1
        for residues, prime in zip((*self.residues[1:], self.residues[0]), order, strict=True):
            digit = residues
            for smaller, before in zip(digits, order, strict=False):
                digit = ntt.times(
                    digit + (np.uint64(prime) - smaller % np.uint64(prime)), pow(before, -1, prime), prime
                )
            digits.append(digit)
            left += digit * np.uint64(radix % (1 << WRAP_BITS))
            radix *= prime
        return (self.words - left) * np.uint64(pow(radix, -1, 1 << WRAP_BITS)), digits[-1]


def turned(numbers: Words, steps: int, modulus: int = 0) -> Words:
    """Polynomials times x^steps, for 0 to 2N − 1, modulo 2^64 or a prime."""
    n = numbers.shape[-1]
    rolled: Words = np.roll(numbers, steps % n, axis=-1)
    negative = np.arange(n) < steps % n
    if steps >= n:
        negative = ~negative
    m = np.uint64(modulus)
    opposite = (m - rolled) % m if modulus else -rolled
    return np.where(negative, opposite, rolled)


def uniform_words(rng: np.random.Generator, shape: tuple[int, ...]) -> Words:
    """Uniform numbers modulo 2^64."""
    return rng.integers(0, 1 << WRAP_BITS, shape, dtype=np.uint64)


def uniform_below(rng: np.random.Generator, bound: int, shape: tuple[int, ...]) -> tuple[Words, Words]:
    """Uniform integers below a bound of up to 128 bits, as high and low words."""
    if bound <= 1 << WRAP_BITS:
        return np.zeros(shape, dtype=np.uint64), rng.integers(0, bound, shape, dtype=np.uint64)
    most, limit = divmod(bound, 1 << WRAP_BITS)
    high, low = rng.integers(0, most + 1, shape, dtype=np.uint64), uniform_words(rng, shape)
    while (beyond := (high == np.uint64(most)) & (low >= np.uint64(limit))).any():
        high[beyond] = rng.integers(0, most + 1, int(beyond.sum()), dtype=np.uint64)
        low[beyond] = uniform_words(rng, (int(beyond.sum()),))
    return high, low


def _limb_products(matrix: Integers, numbers: Words, bits: int) -> list[tuple[int, Integers]]:
    """(shift, product of ``matrix`` and the numbers' limb at this shift), each exact: the sum of product·2^shift."""
    products = []
    weights = matrix.astype(np.float64)
    for shift in range(0, bits, _LIMB_BITS):
        limb = ((numbers >> np.uint64(shift)) & np.uint64((1 << _LIMB_BITS) - 1)).astype(np.float64)
        product = np.zeros((len(matrix), numbers.shape[1]), dtype=np.int64)
        for first in range(0, len(numbers), _TERMS):
            product += (weights[:, first : first + _TERMS] @ limb[first : first + _TERMS]).astype(np.int64)
        products.append((shift, product))
    return products
