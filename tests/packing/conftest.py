"""Modules and activations to pack, and plans in a ring so small that a test takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.packing.protocol import Packing, Vector
from helora_core.params.ckks import CKKSParams

SMALL = CKKSParams(ring_degree=1024, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
"""Insecure, which no packing can see: 512 slots."""


@st.composite
def _modules(draw: st.DrawFn) -> LoRAModule:
    """Any shape that fits 512 slots, with rows and columns of zeros, or nothing but zeros."""
    dimension = st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 128, 300, 512]))
    d_in, d_out, rank = draw(dimension), draw(dimension), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    down, up = rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank))
    down[list(draw(st.sets(st.integers(0, rank - 1))))] = 0
    up[list(draw(st.sets(st.integers(0, d_out - 1))))] = 0
    scaling = draw(st.one_of(st.just(0.0), st.floats(-32, -1e-3), st.floats(1e-3, 32)))
    return LoRAModule("drawn", down, up, scaling)


@pytest.fixture(scope="session")
def modules() -> st.SearchStrategy[LoRAModule]:
    """Draw with ``data.draw(modules)``."""
    return _modules()


@pytest.fixture(scope="session")
def plan_for() -> Callable[[ModuleShape, Packing], Plan]:
    """A plan in 512 slots."""
    return lambda shape, packing: compile_plan(shape, packing, params=SMALL)


@pytest.fixture(scope="session")
def activations() -> Callable[..., Vector]:
    """Normal activations of shape (tokens, d_in), the same for the same seed."""
    return lambda module, tokens, seed=0: np.random.default_rng(seed).normal(size=(tokens, module.shape.d_in))
