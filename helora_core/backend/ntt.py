"""Polynomials modulo x^N + 1 and a prime, exactly: the negacyclic number-theoretic transform in NumPy.

Backends whose library does not encode integers itself write them as residues, in SEAL's transformed order: value i is
the polynomial at ψ^(2·rev(i) + 1), where ψ is the smallest primitive 2N-th root of unity modulo the prime and rev
reverses log2 N bits. (Longa and Naehrig, CANS 2016, algorithms 1 and 2; factors with a precomputed quotient after
Shoup, as Harvey, J. Symbolic Computation 60 (2014), describes.)

Residues are uint64 below the prime, primes are below 2^61.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Residues = NDArray[np.uint64]
"""Integers 0 ≤ r < p."""

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def forward(coefficients: Residues, prime: int) -> Residues:
    """Values of the polynomial with these coefficients: uint64, shape (…, N) both."""
    n = coefficients.shape[-1]
    roots, quotients = _roots(n, prime)
    p = np.uint64(prime)
    values: Residues = coefficients.copy()
    groups, length = 1, n
    while groups < n:
        length //= 2
        blocks = values.reshape(*values.shape[:-1], groups, 2, length)
        low, high = blocks[..., 0, :], blocks[..., 1, :]
        turned = _times(high, roots[groups : 2 * groups, np.newaxis], quotients[groups : 2 * groups, np.newaxis], prime)
        difference = _reduced(low + (p - turned), p)
        blocks[..., 0, :] = _reduced(low + turned, p)
        blocks[..., 1, :] = difference
        groups *= 2
    return values


def inverse(values: Residues, prime: int) -> Residues:
    """Coefficients of the polynomial with these values; undoes ``forward``."""
    n = values.shape[-1]
    roots, quotients = _inverse_roots(n, prime)
    p = np.uint64(prime)
    coefficients: Residues = values.copy()
    groups, length = n, 1
    while groups > 1:
        groups //= 2
        blocks = coefficients.reshape(*coefficients.shape[:-1], groups, 2, length)
        low, high = blocks[..., 0, :], blocks[..., 1, :]
        total = _reduced(low + high, p)
        blocks[..., 1, :] = _times(
            low + (p - high), roots[groups : 2 * groups, np.newaxis], quotients[groups : 2 * groups, np.newaxis], prime
        )
        blocks[..., 0, :] = total
        length *= 2
    return times(coefficients, pow(n, -1, prime), prime)


def forward_all(rows: Residues, primes: Sequence[int]) -> Residues:
    """``forward`` of each row modulo its prime; shape (primes, N)."""
    return np.stack([forward(row, prime) for row, prime in zip(rows, primes, strict=True)])


def inverse_all(rows: Residues, primes: Sequence[int]) -> Residues:
    """Undoes ``forward_all``."""
    return np.stack([inverse(row, prime) for row, prime in zip(rows, primes, strict=True)])


def times(residues: Residues, factor: int, prime: int) -> Residues:
    """Residues times an integer, modulo the prime."""
    factor %= prime
    return _times(residues, np.uint64(factor), np.uint64((factor << 64) // prime), prime)


def product(left: Residues, right: Residues, prime: int) -> Residues:
    """Products of residues, element by element, which multiply polynomials given by their values.

    (Montgomery, Mathematics of Computation 44 (1985): the multiple of the prime that makes the lower 64 bits zero.)
    """
    p, low = np.uint64(prime), left * right
    multiple = low * np.uint64(-pow(prime, -1, 1 << 64) % (1 << 64))
    carry = (low != 0).astype(np.uint64)
    shifted = _reduced(_high(left, right) + _high(multiple, p) + carry, p)
    return times(shifted, 1 << 64, prime)


def _times(residues: Residues, factor: Residues | np.uint64, quotient: Residues | np.uint64, prime: int) -> Residues:
    """residues · factor mod prime, for any residues below 2^64; ``quotient`` is ⌊factor · 2^64 / prime⌋."""
    p = np.uint64(prime)
    return _reduced(residues * factor - _high(residues, quotient) * p, p)


def _high(left: Residues, right: Residues | np.uint64) -> Residues:
    """The upper 64 bits of products of 64-bit integers."""
    left_low, left_high = left & _LOW, left >> _HALF
    right_low, right_high = right & _LOW, right >> _HALF
    cross = left_high * right_low + ((left_low * right_low) >> _HALF)
    other = left_low * right_high + (cross & _LOW)
    high: Residues = left_high * right_high + (cross >> _HALF) + (other >> _HALF)
    return high


def _reduced(residues: Residues, prime: np.uint64) -> Residues:
    """Integers below 2·prime, modulo the prime."""
    # A residue below the prime wraps around to a number larger than itself.
    reduced: Residues = np.minimum(residues, residues - prime)
    return reduced


@functools.cache
def _roots(n: int, prime: int) -> tuple[Residues, Residues]:
    """Powers of ψ in the order of bit reversal, and their quotients."""
    return _table(_primitive_root(n, prime), n, prime)


@functools.cache
def _inverse_roots(n: int, prime: int) -> tuple[Residues, Residues]:
    return _table(pow(_primitive_root(n, prime), -1, prime), n, prime)


def _table(root: int, n: int, prime: int) -> tuple[Residues, Residues]:
    powers = _powers(root, n, prime)[_bit_reversed(n)]
    return powers.astype(np.uint64), ((powers << 64) // prime).astype(np.uint64)


def _powers(root: int, count: int, prime: int) -> NDArray[np.object_]:
    """root^0 … root^(count − 1) modulo the prime, as Python's integers; ``count`` is a power of two."""
    powers = np.array([1], dtype=object)
    while powers.size < count:
        powers = np.concatenate([powers, powers * pow(root, powers.size, prime) % prime])
    return powers


def _bit_reversed(n: int) -> NDArray[np.int64]:
    """For each index its bits in reverse order."""
    reversed_ = np.zeros(1, dtype=np.int64)
    while reversed_.size < n:
        reversed_ = np.concatenate([2 * reversed_, 2 * reversed_ + 1])
    return reversed_


def _primitive_root(n: int, prime: int) -> int:
    """The smallest primitive 2n-th root of unity modulo the prime."""
    for candidate in range(2, prime):
        root = pow(candidate, (prime - 1) // (2 * n), prime)
        if pow(root, n, prime) == prime - 1:
            break
    # The others are its odd powers.
    return int(min(_powers(root * root % prime, n, prime) * root % prime))
