"""Arithmetic modulo word-sized primes in NumPy, exactly: what the reference kernels are made of.

Arrays are uint64 and hold canonical residues. ``q`` is a prime, or an array of primes that broadcasts against the
operands. Primes are below 2^61.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Residues = NDArray[np.uint64]
Moduli = NDArray[np.uint64]

NARROW_BITS = 50
"""Products modulo primes up to so long need one quotient in double precision."""

_HALF_BITS = np.uint64(30)
_HALF = np.uint64((1 << 30) - 1)

_DIGIT_BITS = 20
_MOST_EXACT = 4096


def reduced(x: Residues, q: Moduli) -> Residues:
    """x mod q for x below 2q: one that is below q wraps around to more than it."""
    least: Residues = np.minimum(x, x - q)
    return least


def add(a: Residues, b: Residues, q: Moduli) -> Residues:
    """a + b."""
    return reduced(a + b, q)


def sub(a: Residues, b: Residues, q: Moduli) -> Residues:
    """a - b."""
    return reduced(a + (q - b), q)


def negate(a: Residues, q: Moduli) -> Residues:
    """-a."""
    return reduced(q - a, q)


def multiply(a: Residues, b: Residues, q: Moduli) -> Residues:
    """a · b; operands broadcast."""
    if int(np.max(q)) < 1 << NARROW_BITS:
        return _by_quotient(a, b, q)
    upper = _by_quotient(a, b >> _HALF_BITS, q)
    shifted = _by_quotient(upper, np.uint64(1 << 30), q)
    return add(shifted, _by_quotient(a, b & _HALF, q), q)


def _by_quotient(a: Residues, b: Residues | np.uint64, q: Moduli) -> Residues:
    """a · b, less q times the quotient that doubles give.

    The quotient is below 2^50 (of narrow primes, or since b is below 2^31), and three roundings of 2^-53 leave it less
    than one off; so the difference, taken modulo 2^64, is what it is, between -2q and 2q.
    """
    quotient = np.floor(a.astype(np.float64) * np.asarray(b).astype(np.float64) / q.astype(np.float64))
    rest = (a * b - quotient.astype(np.uint64) * q).view(np.int64)
    signed = q.view(np.int64)
    rest = np.where(rest < 0, rest + signed, rest)
    rest = np.where(rest >= signed, rest - signed, rest)
    return rest.astype(np.uint64)


def centred(a: Residues, q: Moduli) -> NDArray[np.int64]:
    """The integers of least size that are ``a`` modulo q."""
    signed = a.astype(np.int64)
    return np.where(a > q >> np.uint64(1), signed - q.astype(np.int64), signed)


def of_integers(x: NDArray[np.int64], q: Moduli) -> Residues:
    """Integers modulo q."""
    residues: Residues = np.mod(x, q.astype(np.int64)).astype(np.uint64)
    return residues


def product(factors: Sequence[int], q: int) -> int:
    """The product of integers modulo q."""
    result = 1
    for factor in factors:
        result = result * factor % q
    return result


def matrix_product(weights: NDArray[np.int64], x: Residues, q: int) -> Residues:
    """weights @ x modulo one prime: weights are any integers, x residues of shape (terms, columns).

    Both are cut into digits of 20 bits, so that 4096 products of doubles have an exact sum.
    """
    modulus = np.array(q, dtype=np.uint64)
    left, right = _digits(of_integers(weights, modulus), q), _digits(x, q)
    total = np.zeros((weights.shape[0], x.shape[1]), dtype=np.uint64)
    for i, upper in enumerate(left):
        for j, lower in enumerate(right):
            power = np.array(pow(2, _DIGIT_BITS * (i + j), q), dtype=np.uint64)
            for start in range(0, x.shape[0], _MOST_EXACT):
                part = upper[:, start : start + _MOST_EXACT] @ lower[start : start + _MOST_EXACT]
                total = add(total, multiply(part.astype(np.uint64) % modulus, power, modulus), modulus)
    return total


def _digits(x: Residues, q: int) -> list[NDArray[np.float64]]:
    mask = np.uint64((1 << _DIGIT_BITS) - 1)
    return [(x >> np.uint64(shift) & mask).astype(np.float64) for shift in range(0, q.bit_length(), _DIGIT_BITS)]
