"""Roots of unity modulo primes that are 1 mod 2N, and what automorphisms do to a transform's values."""

from __future__ import annotations

import functools

import numpy as np

from helora_rns import modular
from helora_rns.arrays import aligned_copy
from helora_rns.modular import Residues


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
    """The index by which values are permuted when x becomes x^element: value i comes from place index[i]. All get the
    same array: do not write to it.

    Value i is the polynomial at psi^(2·rev(i) + 1), and stands for exponent element · (2·rev(i) + 1) afterwards. The
    low bits of that number, which the high bits of i are, depend on themselves only: aligned groups of eight stay
    together.
    """
    reversed_ = bit_reversed(ring_degree)
    exponents = element * (2 * reversed_ + 1) % (2 * ring_degree)
    return aligned_copy(reversed_[(exponents - 1) // 2].astype(np.uint32))
