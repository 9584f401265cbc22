"""Rounds rows of numbers so that rescaling does not round two sums of them alike.

A rescale rounds z_j = Σ_i down[j, i]·x_i, divided by a prime. Ciphertexts x_i are as good as uniform modulo that prime,
so the roundings of two sums are independent, as the bounds on errors and floods take them, unless the integers of one
row are a multiple of the other's. At a ratio of a : b in lowest terms they correlate by 1/(a·b); those of equal rows
are equal, and add up in Δ. Such a row is rounded the other way in one number, the one that is closest to the middle
between two integers: a row of four numbers or more still moves by no more than the bound on rounding, √(Σ 1/4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from helora_core.packing.protocol import Vector

_UNCORRELATED = 1 << 16
"""A ratio a : b of integers hardly correlates from this product of both on."""


def rounded_apart(vector: Vector, bits: int, earlier: Sequence[Vector]) -> Vector:
    """The nearest integers to 2^bits times a row, with one changed if they are in a simple ratio to an earlier row.

    If all its numbers are too small for that, the nearest are returned.
    """
    exact = np.ldexp(vector, bits)
    nearest: Vector = np.rint(exact)
    if not _in_simple_ratio(nearest, earlier):
        return nearest
    remainder = exact - nearest
    for place in np.argsort(-np.abs(remainder), kind="stable"):
        moved: Vector = nearest.copy()
        moved[place] += 1.0 if remainder[place] >= 0 else -1.0
        # What was zero may be left out of the program, and no library multiplies by zero.
        if nearest[place] and moved[place] and not _in_simple_ratio(moved, earlier):
            return moved
    return nearest


def _in_simple_ratio(row: Vector, others: Sequence[Vector]) -> bool:
    return any(_simple_ratio(row, other) for other in others)


def _simple_ratio(row: Vector, other: Vector) -> bool:
    place = int(np.argmax(np.abs(other)))
    if not row[place] or not other[place] or not np.array_equal(row * other[place], other * row[place]):
        return False
    a, b = abs(int(row[place])), abs(int(other[place]))
    return a * b < _UNCORRELATED * math.gcd(a, b) ** 2
