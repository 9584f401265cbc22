"""The canonical embedding, against evaluating the polynomial root by root."""

from __future__ import annotations

import cmath

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients

RINGS = st.sampled_from([4, 8, 32, 64])


@st.composite
def polynomials(draw: st.DrawFn) -> tuple[NDArray[np.float64], int]:
    ring_degree = draw(RINGS)
    size = draw(st.integers(1, ring_degree))
    return draw(npst.arrays(np.float64, size, elements=st.floats(-100, 100))), ring_degree


def value_at(coefficients: NDArray[np.float64], root: complex) -> complex:
    return sum(float(c) * root**k for k, c in enumerate(coefficients))


@given(polynomials())
def test_every_slot_is_the_value_at_a_primitive_root_and_no_two_roots_are_conjugate(
    case: tuple[NDArray[np.float64], int],
) -> None:
    coefficients, ring_degree = case
    x = np.zeros(2)
    x[1] = 1.0
    roots = coefficients_to_slots(x, ring_degree)
    np.testing.assert_allclose(roots**ring_degree, -1, atol=1e-9)
    both = {(round(root.real, 6), round(root.imag, 6)) for root in [*roots, *roots.conj()]}
    assert len(both) == ring_degree
    expected = [value_at(coefficients, root) for root in roots]
    np.testing.assert_allclose(coefficients_to_slots(coefficients, ring_degree), expected, atol=1e-7)


@given(polynomials())
def test_coefficients_come_back_from_the_slots(case: tuple[NDArray[np.float64], int]) -> None:
    coefficients, ring_degree = case
    found = slots_to_coefficients(coefficients_to_slots(coefficients, ring_degree), ring_degree)
    np.testing.assert_allclose(found, np.pad(coefficients, (0, ring_degree - coefficients.size)), atol=1e-9)


def test_neighbouring_slots_are_one_automorphism_apart() -> None:
    """Rotating by one slot is the same automorphism everywhere, which is what makes rotations possible at all."""
    ring_degree = 32
    roots = coefficients_to_slots(np.array([0.0, 1.0]), ring_degree)
    exponents = [round(cmath.phase(root) * ring_degree / cmath.pi) % (2 * ring_degree) for root in roots]
    steps = {exponents[j + 1] * pow(exponents[j], -1, 2 * ring_degree) % (2 * ring_degree) for j in range(15)}
    assert len(steps) == 1
