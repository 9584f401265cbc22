"""Plaintexts on disk: the same vectors back, to the bit, for every kind of vector."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load

from helora_core.artifact.constants import header_room, most_bytes, read_constants, write_constants
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidProgram
from helora_core.host.manager import get_manager


@pytest.fixture(scope="module")
def small() -> Plan:
    """A plan of few constants."""
    from helora_core.adapter.lora import ModuleShape

    return compile_plan(ModuleShape.parse("5:3:1"), get_manager().load_packing("rank_bsgs"), private_weights=False)


def stored(plan: Plan, vectors: list[tuple[str, Any]]) -> bytes:
    file = io.BytesIO()
    write_constants(file, plan, vectors, lambda count: None)
    return file.getvalue()


@hypothesis.given(
    run=st.integers(0, 12), size=st.integers(1, 4096), odd=st.booleans(), zero=st.sampled_from([0.0, -0.0])
)
def test_vectors_come_back_to_the_bit(small: Plan, run: int, size: int, odd: bool, zero: float) -> None:
    slots = small.params.slots
    values = np.random.default_rng(size).normal(size=slots)
    values = values[:size] if odd else np.repeat(values[: slots >> run], 1 << run)
    values[-1] = zero
    vectors = [(name, values) for name in small.constant_specs]
    data = stored(small, vectors)
    assert len(data) <= most_bytes(small)
    for _, vector in read_constants(data, small, Path("file")):
        assert vector.tobytes() == values.tobytes()


def test_repeated_numbers_are_stored_once(small: Plan) -> None:
    values = np.repeat(np.arange(1.0, 9.0), small.params.slots // 8)
    tensors = load(stored(small, [(name, values) for name in small.constant_specs]))
    assert {tensor.shape for tensor in tensors.values()} == {(8, 1)}


def test_the_header_never_outgrows_its_room() -> None:
    names = ["a", 'quoted"', "down.é.0", "x" * 200]
    assert header_room(names) % 8 == 0
    assert header_room(names) > header_room(names[:1])


@pytest.mark.parametrize("bad", [np.ones((2, 2)), np.array([np.inf]), np.array([np.nan])])
def test_what_is_no_vector_is_the_packings_fault(small: Plan, refused: Any, bad: Any) -> None:
    with refused(InvalidProgram, "finite"):
        stored(small, [(name, bad) for name in small.constant_specs])


def test_names_twice_are_the_packings_fault(small: Plan, refused: Any) -> None:
    with refused(InvalidProgram, "twice"):
        stored(small, [(name, np.ones(4)) for name in small.constant_specs] * 2)
