"""Activations at the door, and many tokens as runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.parties.batching import batches, check_activations

Refused = Callable[..., AbstractContextManager[None]]

SHAPE = ModuleShape(d_in=600, d_out=2, rank=1)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Four tokens a run."""
    return compile_plan(SHAPE, RankBSGS(), private_weights=False)


class TestActivations:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16, np.int64, ">f4"])
    def test_any_real_array_becomes_float64(self, dtype: Any) -> None:
        x = np.arange(6, dtype=dtype).reshape(2, 3)
        checked = check_activations(x, ModuleShape(d_in=3, d_out=1, rank=1), who="q_proj")
        assert checked.dtype == np.dtype("float64")
        assert checked.tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_the_callers_array_is_not_the_one_that_is_used(self) -> None:
        x = np.ones((1, 3))
        checked = check_activations(x, ModuleShape(d_in=3, d_out=1, rank=1), who="q_proj")
        x[:] = 2
        assert checked.tolist() == [[1, 1, 1]]

    @pytest.mark.parametrize(
        "x",
        [
            np.ones(600),
            np.ones((1, 599)),
            np.ones((600, 1)),
            np.ones((0, 600)),
            np.ones((1, 1, 600)),
            np.ones((1, 600), dtype=complex),
            np.ones((1, 600), dtype=bool),
            np.full((1, 600), "1"),
            np.full((1, 600), 1, dtype=object),
        ],
        ids=lambda x: f"{x.dtype}-{x.shape}",
    )
    def test_other_shapes_and_dtypes_are_refused(self, refused: Refused, x: Any) -> None:
        with refused(InvalidInput, "q_proj", "(tokens, 600)", str(x.dtype), str(x.shape), hint="one row per token"):
            check_activations(x, SHAPE, who="q_proj")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_refused(self, refused: Refused, value: float) -> None:
        x = np.ones((2, 600))
        x[1, 599] = value
        with refused(InvalidInput, "q_proj", "NaN or infinity"):
            check_activations(x, SHAPE, who="q_proj")


class TestBatches:
    def test_five_tokens_four_to_a_run_are_two_runs(self, plan: Plan) -> None:
        x = np.arange(5 * 600, dtype=np.float64).reshape(5, 600)
        assert [batch.shape for batch in batches(plan, x)] == [(4, 600), (1, 600)]

    @given(tokens=st.integers(1, 41))
    def test_runs_are_as_many_as_planned_and_hold_every_token_in_order(self, plan: Plan, tokens: int) -> None:
        x = np.arange(tokens * 600, dtype=np.float64).reshape(tokens, 600)
        runs = list(batches(plan, x))
        assert len(runs) == plan.runs(tokens)
        assert {run.shape[0] for run in runs[:-1]} <= {plan.tokens_per_run}
        assert np.array_equal(np.concatenate(runs), x)
