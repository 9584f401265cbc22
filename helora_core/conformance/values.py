"""The vectors of slots that the laws use. Everything is reproducible."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.conformance.bench import SLOTS

MAGNITUDE = 8.0
"""Values are drawn from −8 to 8, like activations after a norm, outliers included."""


def random_slots(seed: int, size: int = SLOTS) -> NDArray[np.float64]:
    """``size`` values, uniform."""
    return np.random.default_rng(seed).uniform(-MAGNITUDE, MAGNITUDE, size)


def random_complex(seed: int, size: int = SLOTS) -> NDArray[np.complex128]:
    """``size`` complex values."""
    parts = random_slots(seed, 2 * size)
    return parts.view(np.complex128)


@st.composite
def slot_vectors(draw: st.DrawFn) -> NDArray[np.float64]:
    """Vectors of 1 to N/2 values: mostly random, with a few places set to values that tend to go wrong."""
    values = random_slots(
        draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 2, 7, SLOTS // 2, SLOTS - 1, SLOTS]))
    )
    for place in draw(st.lists(st.integers(0, values.size - 1), max_size=4)):
        values[place] = draw(st.sampled_from([0.0, -0.0, 1.0, -1.0, MAGNITUDE, -MAGNITUDE, 2.0**-30]))
    return values
