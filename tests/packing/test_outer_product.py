"""The cost of the textbook method, and that it is exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.execution.reference import execute_plain
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.interleaved import MOST_PLAINTEXTS
from helora_core.packing.outer_product import OuterProduct
from helora_core.packing.protocol import Vector
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.params.presets import FAST
from helora_core.parties.module_run import ModuleRun

Modules = st.SearchStrategy[LoRAModule]
SmallPlan = Callable[..., Plan]
RunOn = Callable[[str, Plan, LoRAModule, Vector], ModuleRun]

dimensions = st.integers(1, 5000)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))


def plan_for(shape: str, tokens: int | None = None) -> Plan:
    return compile_plan(ModuleShape.parse(shape), OuterProduct(), tokens=tokens, private_weights=False)


class TestCounts:
    @settings(max_examples=30)
    @given(shape=SHAPES, tokens=st.sampled_from([None, 4, 40]))
    def test_they_follow_the_formula(self, shape: ModuleShape, tokens: int | None) -> None:
        """r·log₂(p) rotations with log₂(p) keys; r·(B+B') products; r + B' rescales."""
        plan = compile_plan(shape, OuterProduct(), tokens=tokens, params=FAST, private_weights=False)
        p, blocks_in, blocks_out = plan.layout.figures.values()
        folds = p.bit_length() - 1
        assert plan.counts.rotations == plan.counts.keyswitches == shape.rank * folds
        assert plan.rotation_steps == tuple(plan.tokens_per_run << fold for fold in range(folds))
        assert plan.counts.ct_pt == shape.rank * (blocks_in + blocks_out) == len(plan.constant_specs)
        assert plan.counts.rescales == shape.rank + blocks_out
        assert plan.counts.additions == shape.rank * (blocks_in - 1 + folds) + blocks_out * (shape.rank - 1)
        assert (plan.counts.encrypts, plan.counts.decrypts) == (blocks_in, blocks_out)

    @pytest.mark.parametrize("shape", ["512:512:8", "1536:256:16", "4096:4096:64"])
    def test_it_is_never_cheaper_than_going_through_diagonals(self, shape: str) -> None:
        ours, other = (
            plan_for(shape).counts,
            compile_plan(ModuleShape.parse(shape), RankBSGS(), private_weights=False).counts,
        )
        assert ours.rotations > other.rotations
        assert ours.rescales > other.rescales


class TestLayout:
    def test_a_shorter_period_runs_more_tokens_with_fewer_folds(self) -> None:
        few, many = plan_for("512:512:8"), plan_for("512:512:8", 64)
        assert (few.tokens_per_run, many.tokens_per_run) == (8, 64)
        assert many.counts.rotations < few.counts.rotations

    @given(shape=SHAPES, slots=st.sampled_from([512, 4096, 16384]))
    def test_a_shorter_period_never_takes_too_many_plaintexts(self, shape: ModuleShape, slots: int) -> None:
        first, *others = OuterProduct().layouts(shape, slots, tokens=10**6, costs=DEFAULT_COSTS)
        assert [layout.period for layout in others] == [first.period >> i for i in range(1, len(others) + 1)]
        assert all(shape.rank * (layout.blocks_in + layout.blocks_out) <= MOST_PLAINTEXTS for layout in others)

    def test_an_inner_product_fills_every_feature(self, small_plan: SmallPlan) -> None:
        module = synthetic_module(ModuleShape.parse("20:6:1"), seed=1)
        module = LoRAModule("ones", module.down, np.ones((6, 1)), 1.0)
        plan = small_plan(module, OuterProduct(), None)
        x = synthetic_activations(module.shape, 1, seed=2)
        (output,) = execute_plain(plan.program, plan.pack(x), dict(plan.layout.constants(module)))
        first = output.reshape(plan.layout.figures["period"], plan.tokens_per_run)[:6, 0]
        assert np.allclose(first, (module.down @ x[0]).item())

    @pytest.mark.parametrize("shape", ["512:512:8", "1536:8960:32", "8960:1536:32", "4096:4096:64"])
    def test_little_more_than_the_rank_is_alive(self, shape: str, peak_live: Callable[[Plan], int]) -> None:
        plan = plan_for(shape)
        _, blocks_in, blocks_out = plan.layout.figures.values()
        assert peak_live(plan) <= plan.shape.rank + blocks_in + blocks_out + 1
