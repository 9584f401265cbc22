"""Folds of any radix leave the total in every block, and the cheapest radices are chosen."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.builder import Builder
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import least_divisions, relative_cost
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.execution.reference import execute_plain, run_plain
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.folds import best_radices, folded
from helora_core.packing.outer_product import OuterProduct
from helora_core.packing.rank_bsgs import RankBSGS

SHARING = OperationCosts(decompose=0.06, key_product=0.03, divide=0.02, add=0.001)
"""Of a library that decomposes once and divides once where it can: those are most of a rotation."""

WIDE = ModuleShape.parse("1536:1536:16")


@given(exponents=st.lists(st.integers(1, 3), max_size=4), distance=st.sampled_from([1, 4]))
def test_every_block_holds_the_total(exponents: list[int], distance: int) -> None:
    radices = tuple(1 << each for each in exponents)
    period = distance * math.prod(radices)
    builder = Builder(period)
    builder.output(folded(builder, builder.input(), radices, distance, builder.rotate))
    x = np.random.default_rng(0).normal(size=period)
    (total,) = execute_plain(builder.program(), [x], {})
    np.testing.assert_allclose(total, np.tile(x.reshape(-1, distance).sum(axis=0), period // distance), atol=1e-9)


@given(doublings=st.integers(0, 9), decompose=st.integers(0, 20), product=st.integers(0, 20), divide=st.integers(0, 20))
def test_no_other_radices_cost_less(doublings: int, decompose: int, product: int, divide: int) -> None:
    costs = OperationCosts(decompose=decompose, key_product=product, divide=divide, add=1)

    def cost(radices: tuple[int, ...]) -> float:
        return sum(decompose + divide + (radix - 1) * (product + 1) for radix in radices)

    others = [
        radices
        for steps in range(doublings + 1)
        for radices in itertools.combinations_with_replacement((2, 4, 8), steps)
        if math.prod(radices) == 1 << doublings
    ]
    chosen = best_radices(1 << doublings, costs)
    assert math.prod(chosen) == 1 << doublings
    assert cost(chosen) == min(map(cost, others))


def test_where_nothing_is_shared_every_radix_is_2() -> None:
    assert best_radices(128, DEFAULT_COSTS) == (2,) * 7
    assert "fold_radices" not in plan_of(RankBSGS(), DEFAULT_COSTS).layout.figures


@pytest.mark.parametrize("packing", [RankBSGS(), OuterProduct()])
def test_a_plan_with_other_radices_is_exact(packing: RankBSGS | OuterProduct) -> None:
    rng = np.random.default_rng(1)
    module = LoRAModule("m", rng.normal(size=(4, 100)), rng.normal(size=(70, 4)), 0.5)
    plan = compile_plan(module.shape, packing, costs=SHARING, module=module, private_weights=False)
    assert plan.layout.figures["fold_radices"] > 4
    x = rng.normal(size=(2, 100))
    np.testing.assert_allclose(run_plain(plan, module, x), module.reference_delta(x), rtol=0, atol=1e-9)


class TestWhatIsShared:
    """1536:1536:16 with period 2048: 8 baby steps and folds of radix 4, 4, 4, 2 where sharing is possible."""

    def test_more_rotations_are_cheaper(self) -> None:
        fewest, shared = (plan_of(RankBSGS(), costs) for costs in (DEFAULT_COSTS, SHARING))
        assert shared.layout.figures["fold_radices"] == 4442
        assert shared.layout.figures["baby_steps_down"] == shared.layout.figures["baby_steps_up"] == 8
        assert (fewest.counts.rotations, shared.counts.rotations) == (19, 26)
        assert len(shared.rotation_steps) > len(fewest.rotation_steps)
        assert shared.key_bytes > fewest.key_bytes
        for costs, better, worse in ((SHARING, shared, fewest), (DEFAULT_COSTS, fewest, shared)):
            assert relative_cost(better.program, costs) < relative_cost(worse.program, costs)

    def test_each_part_of_a_key_switch_is_counted(self) -> None:
        program = plan_of(RankBSGS(), SHARING).program
        # x, one giant step of down, four folds, y, one giant step of up.
        assert sum(1 for _ in program.hoisted_groups()) == 1 + 1 + 4 + 1 + 1
        # The second polynomials of both giant steps, of three folds and of y; both of what is rescaled.
        assert len(least_divisions(program).divided) == 2 + 3 + 1 + 2 * 2
        assert sum(op.kind is OpKind.ROTATE for op in program.ops) == 2 * (7 + 1) + 3 * 3 + 1


def plan_of(packing: RankBSGS, costs: OperationCosts) -> Plan:
    return compile_plan(WIDE, packing, costs=costs, private_weights=False)
