from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from helora_core.backend.values import check_values
from helora_core.errors import InvalidInput, SlotOverflow

SLOTS = 8


@given(npst.arrays(np.float64, st.integers(1, SLOTS), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_finite_vectors_that_fit_are_let_in(values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    check_values(values, SLOTS, who="here")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.zeros(0), "float64, shape (0,)"),
        (np.ones((2, 2)), "shape (2, 2)"),
        (np.array(1.0), "shape ()"),
        (np.ones(3, dtype=np.int64), "int64"),
        (np.ones(3, dtype=np.float32), "float32"),
        (np.ones(3, dtype=np.complex128), "complex128"),
        (np.ones(3, dtype=bool), "bool"),
        (np.array([1.0], dtype=object), "object"),
        ([1.0, 2.0], "list"),
        (1.0, "float"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_float64_vector_is_refused_by_what_it_is(values: Any, found: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_values(values, SLOTS, who="here")
    assert caught.value.message.startswith("here: ")
    assert found in caught.value.message.partition(", not ")[2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, SLOTS - 1])
def test_values_that_are_not_finite_are_refused(value: float, position: int) -> None:
    values = np.ones(SLOTS)
    values[position] = value
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        check_values(values, SLOTS, who="here")


@pytest.mark.parametrize(("size", "ring"), [(SLOTS + 1, 32), (16, 32), (17, 64)])
def test_more_values_than_slots_are_refused_with_the_ring_that_would_do(size: int, ring: int) -> None:
    with pytest.raises(SlotOverflow, match=f"{size} values do not fit {SLOTS} slots") as caught:
        check_values(np.ones(size), SLOTS, who="here")
    assert f"at least {ring}," in caught.value.hint
