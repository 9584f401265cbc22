"""Rows of numbers are rounded so that no two sums of them are rescaled alike."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from helora_core.execution.distinct_rows import rounded_apart
from helora_core.packing.protocol import Vector

BITS = 12


def rounded(matrix: Vector) -> list[Vector]:
    rows: list[Vector] = []
    for row in matrix:
        rows.append(rounded_apart(row, BITS, rows))
    return rows


def correlation(row: Vector, other: Vector) -> float:
    """Of the remainders of a·u and b·u modulo one, for u uniform."""
    if not row.any() or not other.any() or np.linalg.matrix_rank(np.stack([row, other])) == 2:
        return 0.0
    place = int(np.argmax(np.abs(row)))
    ratio = Fraction(int(row[place]), int(other[place]))
    return float(1 / abs(ratio.numerator * ratio.denominator))


def test_rows_that_differ_are_rounded_to_the_nearest() -> None:
    matrix = np.random.default_rng(1).normal(size=(6, 40))
    assert np.array_equal(rounded(matrix), np.rint(matrix * 2**BITS))


@given(factors=st.lists(st.sampled_from([1, -1, 2, 0.5, 3, 0]), min_size=2, max_size=9), seed=st.integers(0, 2**20))
def test_no_sums_are_rescaled_alike_and_no_row_moves_further_than_the_bound_has_it(
    factors: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    base = rng.choice([rng.normal(), 0.0, 0.25], size=12) if seed % 2 else np.full(12, rng.normal())
    matrix = np.outer(factors, base)
    rows = rounded(matrix)
    for i, row in enumerate(rows):
        assert np.sum((matrix[i] * 2**BITS - row) ** 2) <= 12 / 4
        assert not row[matrix[i] == 0].any()
        if np.count_nonzero(np.abs(row) > 1) >= len(factors):
            assert all(correlation(row, other) <= 2.0**-16 for other in rows[:i])


def test_a_single_number_is_left_no_simple_ratio_to_another() -> None:
    first, second = rounded(np.array([[0.25, 0.0], [-0.25, 0.0]]))
    assert (first[0], abs(second[0] + first[0])) == (1024, 1)


def test_what_can_not_be_told_apart_is_rounded_to_the_nearest() -> None:
    assert np.array_equal(rounded(np.full((3, 1), 2.0**-BITS))[2], [1.0])
