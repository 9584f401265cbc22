"""The canonical embedding, against evaluating the polynomial root by root."""

from __future__ import annotations

import cmath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from helora_core.backend.embedding import coefficients_to_slots, largest_coefficient, slots_to_coefficients

generators = st.sampled_from([3, 5])


@st.composite
def polynomials(draw: st.DrawFn) -> tuple[NDArray[np.float64], int]:
    """Coefficients, at most N of them, and N."""
    ring_degree = draw(st.sampled_from([4, 8, 32, 64]))
    size = draw(st.integers(1, ring_degree))
    return draw(npst.arrays(np.float64, size, elements=st.floats(-100, 100))), ring_degree


@given(polynomials(), generators)
def test_slot_j_is_the_value_at_the_root_to_the_power_of_g_to_the_j(
    case: tuple[NDArray[np.float64], int], generator: int
) -> None:
    coefficients, ring_degree = case
    expected = []
    for j in range(ring_degree // 2):
        root = cmath.exp(1j * cmath.pi * pow(generator, j, 2 * ring_degree) / ring_degree)
        expected.append(sum(float(c) * root**k for k, c in enumerate(coefficients)))
    np.testing.assert_allclose(coefficients_to_slots(coefficients, ring_degree, generator), expected, atol=1e-7)


@given(polynomials(), generators)
def test_coefficients_come_back_from_the_slots(case: tuple[NDArray[np.float64], int], generator: int) -> None:
    coefficients, ring_degree = case
    slots = coefficients_to_slots(coefficients, ring_degree, generator)
    found = slots_to_coefficients(slots, ring_degree, generator)
    np.testing.assert_allclose(found, np.pad(coefficients, (0, ring_degree - coefficients.size)), atol=1e-9)


@pytest.mark.parametrize("generator", [3, 5])
def test_no_two_slots_are_at_the_same_root_or_at_conjugate_ones(generator: int) -> None:
    roots = coefficients_to_slots(np.array([0.0, 1.0]), 32, generator)
    np.testing.assert_allclose(roots**32, -1, atol=1e-9)
    assert len({(round(root.real, 6), round(root.imag, 6)) for root in [*roots, *roots.conj()]}) == 32


@given(polynomials(), generators)
def test_the_largest_coefficient_is_found_in_the_slots(case: tuple[NDArray[np.float64], int], generator: int) -> None:
    coefficients, ring_degree = case
    slots = coefficients_to_slots(coefficients, ring_degree, generator)
    found = largest_coefficient(slots, ring_degree, generator)
    assert found == pytest.approx(np.max(np.abs(coefficients)), abs=1e-9)


def test_slots_that_are_left_out_are_zeros_for_the_largest_coefficient() -> None:
    one = np.array([1.0])
    assert largest_coefficient(one, 64) == largest_coefficient(np.pad(one, (0, 31)), 64) == pytest.approx(2 / 64)
