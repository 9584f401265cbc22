"""Polynomials modulo x^N + 1 in Python's integers: the oracle of everything that has to be exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Residues = NDArray[np.uint64]


def negacyclic(left: Sequence[int], right: Sequence[int], modulus: int) -> list[int]:
    """The product modulo x^N + 1, by the schoolbook."""
    n = len(left)
    total = [0] * n
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            total[(i + j) % n] += a * b if i + j < n else -a * b
    return [each % modulus for each in total]


def integers_of(residues: Residues, primes: Sequence[int]) -> list[int]:
    """The integers below the primes' product that have these residues (Chinese remainders)."""
    modulus = math.prod(primes)
    units = [modulus // prime * pow(modulus // prime, -1, prime) for prime in primes]
    columns = residues.T.tolist()
    return [sum(unit * each for unit, each in zip(units, column, strict=True)) % modulus for column in columns]


def least(integers: Sequence[int], modulus: int) -> list[int]:
    """The representatives of least size, in (−Q/2, Q/2]."""
    return [each - modulus if each > modulus // 2 else each for each in (one % modulus for one in integers)]


def residues_of(integers: Sequence[int], primes: Sequence[int]) -> Residues:
    """Integers modulo each prime."""
    return np.array([[each % prime for each in integers] for prime in primes], dtype=np.uint64)


def of_size(modulus: int, size: int) -> st.SearchStrategy[list[int]]:
    """Integers modulo ``modulus``, often those at its ends and in its middle."""
    edges = sorted({each % modulus for each in (0, 1, 2, modulus // 2, modulus // 2 + 1, modulus - 2, modulus - 1)})
    return st.lists(st.sampled_from(edges) | st.integers(0, modulus - 1), min_size=size, max_size=size)


def chi_square(shares: NDArray[np.float64], cells: int = 64) -> float:
    """How far numbers in [0, 1) are from uniform, in standard deviations of χ² over so many cells of equal size."""
    counts, _ = np.histogram(shares, bins=cells, range=(0.0, 1.0))
    expected = shares.size / cells
    assert counts.sum() == shares.size
    statistic = float(np.sum((counts - expected) ** 2) / expected)
    return (statistic - (cells - 1)) / math.sqrt(2 * (cells - 1))
