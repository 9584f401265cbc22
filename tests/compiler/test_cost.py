"""Costs are read off the program; budgets are per token."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.cost import Budget, check_budget, count_operations, least_divisions, relative_cost
from helora_core.compiler.ir import Op, OpKind, Program, readable
from helora_core.errors import BudgetExceeded
from helora_core.packing.costs import OperationCosts

Refused = Callable[..., AbstractContextManager[None]]

COSTS = ("rotations", "keyswitches", "rescales")
UNLIMITED = Budget(rotations=10**9, keyswitches=10**9, rescales=10**9)


@given(st.data())
def test_counts_are_those_of_the_program_as_it_reads(programs: st.SearchStrategy[Program], data: st.DataObject) -> None:
    program = data.draw(programs)
    *lines, returned = readable(program).splitlines()
    words = Counter(line.split()[2] for line in lines)
    operands: Counter[str] = Counter()
    for line in lines:
        operands[line.split()[2]] += line.count("%") - 1
    fused = operands["dot_plain"] + operands["dot_scalars"]
    assert count_operations(program) == OperationCounts(
        rotations=words["rotate"],
        keyswitches=words["rotate"],
        ct_pt=words["multiply_plain"] + fused,
        additions=words["add"] + fused - words["dot_plain"] - words["dot_scalars"] + words["unmask"],
        rescales=words["rescale"],
        sanitizes=words["sanitize"] + words["mask"],
        encrypts=words["input"] + words["ask_client"],
        decrypts=len(returned.removeprefix("return ").split(", ")) + operands["ask_client"],
    )


def test_a_result_that_is_zero_is_not_decrypted() -> None:
    program = Program(slots=8, ops=(Op(kind=OpKind.INPUT, positions=(0,)),), outputs=(None, 0, None))
    assert count_operations(program) == OperationCounts(encrypts=1, decrypts=1)


class TestRelativeCost:
    NOTHING = OperationCosts(**dict.fromkeys(OperationCosts.__struct_fields__, 0.0))

    @given(st.data())
    def test_each_weight_is_for_what_its_name_says(
        self, programs: st.SearchStrategy[Program], data: st.DataObject
    ) -> None:
        program = data.draw(programs)
        counts = count_operations(program)
        groups = [len(group) for group in program.hoisted_groups()]
        scalars = sum(len(op.args) for op in program.ops if op.kind is OpKind.DOT_SCALARS)
        expected = {
            "decompose": len(groups),
            "key_product": counts.rotations,
            "divide": len(least_divisions(program).divided),
            "multiply_plain": counts.ct_pt - scalars,
            "multiply_scalar": scalars,
            "add": counts.additions,
            "rescale": counts.rescales,
            "encrypt": counts.encrypts,
            "decrypt": counts.decrypts,
            "sanitize": counts.sanitizes,
            "round_trip": 1 + sum(op.kind is OpKind.ASK_CLIENT for op in program.ops),
        }
        costs = {
            name: relative_cost(program, msgspec.structs.replace(self.NOTHING, **{name: 1.0}))
            for name in OperationCosts.__struct_fields__
        }
        assert costs == expected


def test_the_default_budget_is_that_of_the_design() -> None:
    assert Budget() == Budget(rotations=16, keyswitches=16, rescales=8)


@pytest.mark.parametrize("cost", COSTS)
def test_a_cost_at_its_budget_passes_and_one_more_is_refused_by_name(refused: Refused, cost: str) -> None:
    budget = msgspec.structs.replace(UNLIMITED, **{cost: 3})
    check_budget(OperationCounts(**{cost: 6}), tokens=2, budget=budget)
    with refused(BudgetExceeded, f"3.5 {cost} per token (budget 3)", hint="at least 3 tokens"):
        check_budget(OperationCounts(**{cost: 7}), tokens=2, budget=budget)


def test_the_default_budget_applies_when_none_is_given(refused: Refused) -> None:
    check_budget(OperationCounts(rotations=16, keyswitches=16, rescales=8), tokens=1)
    for cost, over in (("rotations", 17), ("keyswitches", 17), ("rescales", 9)):
        with refused(BudgetExceeded, f"{over} {cost}"):
            check_budget(OperationCounts(**{cost: over}), tokens=1)


def test_what_has_no_budget_is_not_limited() -> None:
    check_budget(OperationCounts(ct_pt=10**6, additions=10**6, encrypts=10**6, decrypts=10**6), tokens=1)


def test_every_cost_over_budget_is_named_and_no_other(refused: Refused) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        check_budget(OperationCounts(rotations=40, keyswitches=16, rescales=20), tokens=1)
    assert caught.value.message == "Budget: 40 rotations per token (budget 16); 20 rescales per token (budget 8)."


def tokens_named(counts: OperationCounts, tokens: int, budget: Budget) -> int | None:
    """The tokens that the refusal's hint names, or None if there is no refusal."""
    try:
        check_budget(counts, tokens=tokens, budget=budget)
    except BudgetExceeded as error:
        found: Any = re.search(r"at least (\d+) tokens", error.hint)
        return int(found[1])
    return None


def budgets(allowance: st.SearchStrategy[float]) -> st.SearchStrategy[Budget]:
    return st.builds(Budget, **dict.fromkeys(COSTS, allowance))


counted = st.builds(OperationCounts, **dict.fromkeys(COSTS, st.integers(0, 10**6)))
tokens_run = st.integers(1, 100)


@given(counted, tokens_run, budgets(st.floats(0.01, 50)))
def test_with_the_tokens_that_the_hint_names_it_passes(counts: OperationCounts, tokens: int, budget: Budget) -> None:
    needed = tokens_named(counts, tokens, budget)
    assume(needed is not None)
    assert needed is not None
    assert needed > tokens
    check_budget(counts, tokens=needed, budget=budget)


@given(counted, tokens_run, budgets(st.integers(1, 200).map(lambda quarters: quarters / 4)))
def test_with_one_token_fewer_it_does_not(counts: OperationCounts, tokens: int, budget: Budget) -> None:
    """Quarters are exact; a budget of 0.333… is a hair under a third and may round either way."""
    needed = tokens_named(counts, tokens, budget)
    assume(needed is not None)
    assert needed is not None
    assert tokens_named(counts, needed - 1, budget) == needed


def test_no_number_of_tokens_is_named_where_none_would_do(refused: Refused) -> None:
    with refused(BudgetExceeded, "2.5 rotations per token (budget 0)", hint="Raise the budget, or use a packing"):
        check_budget(OperationCounts(rotations=5, rescales=100), tokens=2, budget=Budget(rotations=0))
