"""Floods and masks hide what they have to, with the margin that is stated, and are less than a bit too large."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.privacy.floods import flood_deviation_bits, mask_deviation_bits


@pytest.mark.parametrize(("deviation_bits", "margin"), [(flood_deviation_bits, math.sqrt(2)), (mask_deviation_bits, 1)])
@given(norm=st.floats(2.0**-10, 2.0**60), bits=st.integers(1, 80))
def test_the_distance_is_the_one_asked_for(
    deviation_bits: Callable[[float, int], int], margin: float, norm: float, bits: int
) -> None:
    """By Pinsker's inequality, ‖e‖/2σ. Noise smaller than one unit is treated as one unit."""
    distance = max(norm, 1.0) / (2 * 2.0 ** deviation_bits(norm, bits))
    assert 2.0**-bits / 2 < distance * margin * (1 + 1e-12)
    assert distance * margin <= 2.0**-bits * (1 + 1e-12)
