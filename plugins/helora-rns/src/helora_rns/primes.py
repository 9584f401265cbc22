"""Primes that are 1 mod 2N, and the roots of unity of a transform modulo them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from helora_rns import modular
from helora_rns.arrays import aligned_copy
from helora_rns.modular import Residues

# The first thirteen primes as Miller-Rabin bases decide every number below 3.3e24 (Sorenson and Webster, 2015).
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def is_prime(number: int) -> bool:
    """Whether ``number``, below 3.3e24, is prime."""
    if number < 2:
        return False
    if any(number % base == 0 for base in _BASES):
        return number in _BASES
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    odd = number - 1 >> twos

    def passes(base: int) -> bool:
        powers = (pow(base, odd << i, number) for i in range(twos))
        return pow(base, odd, number) == 1 or number - 1 in powers

    return all(map(passes, _BASES))


@functools.cache
def ntt_primes(bits: Sequence[int], ring_degree: int) -> tuple[int, ...] | None:
    """For each bit length a prime of its own that is 1 mod 2N, the largest first; None if there are too few.

    Args:
        bits: A tuple of bit lengths.
        ring_degree: N.
    """
    found: dict[int, list[int]] = {}
    for size, count in Counter(bits).items():
        found[size] = [prime for _, prime in zip(range(count), _descending(size, ring_degree), strict=False)]
        if len(found[size]) < count:
            return None
        found[size].reverse()
    return tuple(found[size].pop() for size in bits)


def _descending(bits: int, ring_degree: int) -> Iterator[int]:
    step = 2 * ring_degree
    for candidate in range(((1 << bits) - 1) // step * step + 1, 1 << bits - 1, -step):
        if candidate < 1 << bits and is_prime(candidate):
            yield candidate


@functools.lru_cache(maxsize=256)
def root_powers(ring_degree: int, prime: int) -> Residues:
    """psi^rev(i) for i below N, read-only: psi a primitive 2N-th root of unity, rev the reversal of log2 N bits."""
    psi = primitive_root(ring_degree, prime)
    powers, q = np.ones(1, dtype=np.uint64), np.array(prime, dtype=np.uint64)
    while powers.size < ring_degree:
        # Index i + G, for i below G, has one bit more, which comes to stand at N/2G.
        step = np.uint64(pow(psi, ring_degree // (2 * powers.size), prime))
        powers = np.concatenate([powers, modular.multiply(powers, np.broadcast_to(step, powers.shape), q)])
    powers.flags.writeable = False
    return powers


def primitive_root(ring_degree: int, prime: int) -> int:
    """A primitive 2N-th root of unity: the least base's, so that everybody finds the same."""
    for base in range(2, prime):
        root = pow(base, (prime - 1) // (2 * ring_degree), prime)
        if pow(root, ring_degree, prime) == prime - 1:
            return root
    raise ValueError(f"{prime} has no root of unity of order {2 * ring_degree}")


@functools.lru_cache(maxsize=32)
def bit_reversed(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each index below ``count``, a power of two, its bits in reverse order; read-only."""
    reversed_ = np.zeros(1, dtype=np.int64)
    while reversed_.size < count:
        reversed_ = np.concatenate([2 * reversed_, 2 * reversed_ + 1])
    reversed_.flags.writeable = False
    return reversed_


@functools.lru_cache(maxsize=4096)
def automorphism(ring_degree: int, element: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """The index by which values are permuted when x becomes x^element: value i comes from place index[i]. Read-only.

    Value i is the polynomial at psi^(2·rev(i) + 1), and stands for exponent element · (2·rev(i) + 1) afterwards. The
    low bits of that number, which the high bits of i are, depend on themselves only: aligned groups of eight stay
    together.
    """
    reversed_ = bit_reversed(ring_degree)
    exponents = element * (2 * reversed_ + 1) % (2 * ring_degree)
    index: np.ndarray[tuple[int], np.dtype[np.uint32]] = aligned_copy(reversed_[(exponents - 1) // 2].astype(np.uint32))
    index.flags.writeable = False
    return index
