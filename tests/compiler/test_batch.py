"""The smallest batch that keeps a budget."""

from __future__ import annotations

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.batch import LARGEST_BATCH, smallest_batch
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import Budget
from helora_core.compiler.plan import Plan
from helora_core.errors import BudgetExceeded, SlotOverflow
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.packing.zero_moai import ZeroMOAI

SHAPE = ModuleShape.parse("1536:256:16")


def for_tokens(tokens: int) -> Plan:
    return compile_plan(SHAPE, RankBSGS(), tokens=tokens, private_weights=False)


def found(budget: Budget | None) -> tuple[int, Plan]:
    batch = smallest_batch(for_tokens, budget)
    assert batch is not None
    return batch


@pytest.mark.parametrize("rotations", [0.5, 1, 4, 16, 64])
def test_it_keeps_the_budget_and_half_of_it_does_not(rotations: float) -> None:
    budget = Budget(rotations=rotations, keyswitches=None, rescales=None)
    tokens, plan = found(budget)
    plan.check_budget(tokens, budget)
    assert plan.digest == for_tokens(tokens).digest
    if tokens > 1:
        with pytest.raises(BudgetExceeded):
            for_tokens(tokens // 2).check_budget(tokens // 2, budget)


def test_without_a_budget_it_is_the_default_one() -> None:
    (tokens, plan), (expected, _) = found(None), found(Budget())
    assert tokens == expected
    assert plan.digest == for_tokens(tokens).digest


def test_where_no_batch_will_do_there_is_none_and_none_above_the_largest_is_tried() -> None:
    asked: list[int] = []

    def noting(tokens: int) -> Plan:
        asked.append(tokens)
        return for_tokens(1)

    assert smallest_batch(noting, Budget(rotations=0)) is None
    assert asked == [2**i for i in range(13)]
    assert asked[-1] == LARGEST_BATCH


def test_a_budget_that_no_batch_changes_is_judged_by_the_first_plan() -> None:
    asked: list[int] = []

    def noting(tokens: int) -> Plan:
        asked.append(tokens)
        return compile_plan(SHAPE, ZeroMOAI(), tokens=tokens, private_weights=False)

    assert smallest_batch(noting, Budget(rotations=0, keyswitches=0, rescales=None)) is not None
    assert asked == [1]


def test_other_refusals_are_passed_on() -> None:
    def refuse(tokens: int) -> Plan:
        raise SlotOverflow("too wide", hint="a larger ring")

    with pytest.raises(SlotOverflow):
        smallest_batch(refuse)
