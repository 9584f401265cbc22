"""Budgets: what is over them is named down to the operation, what fits really fits, in plans and in what was run."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import Budget, Sizes, check_budget
from helora_core.compiler.ir import OpKind, describe
from helora_core.compiler.plan import Plan
from helora_core.errors import BudgetExceeded
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob, ModuleResult, run_adapter
from helora_core.parties.report import require_budget

NONE = Budget(rotations=None, keyswitches=None, rescales=None)
BOUNDED = NONE.__struct_fields__
SHAPE = ModuleShape.parse("96:64:8")


def only(**bounds: float) -> Budget:
    return msgspec.structs.replace(NONE, **bounds)


def costs_of(plan: Plan, tokens: int) -> dict[str, float]:
    """What a budget bounds, for ``tokens`` tokens, counted here by itself."""
    runs = -(-tokens // plan.tokens_per_run)
    kinds = [op.kind for op in plan.program.ops]
    return {
        "rotations": runs * kinds.count(OpKind.ROTATE) / tokens,
        "keyswitches": runs * kinds.count(OpKind.ROTATE) / tokens,
        "rescales": runs * kinds.count(OpKind.RESCALE) / tokens,
        "bytes": runs * (plan.bytes_up + plan.bytes_down) / tokens,
        "key_bytes": plan.key_bytes,
        "depth": plan.packing.depth,
    }


@pytest.fixture(scope="module", params=["rank_bsgs", "outer_product", "zero_moai", "cheetah_two_round"])
def plan(request: pytest.FixtureRequest) -> Plan:
    return compile_plan(
        SHAPE, get_manager().load_packing(request.param), tokens=4, sanitize_bits=40, private_weights=False
    )


@given(tokens=st.integers(1, 40))
@pytest.mark.parametrize("cost", BOUNDED)
def test_a_plan_fits_a_budget_of_what_it_costs_and_none_below(plan: Plan, cost: str, tokens: int) -> None:
    costs = costs_of(plan, tokens)[cost]
    plan.check_budget(tokens, only(**{cost: costs * (1 + 1e-12)}))
    if costs:
        with pytest.raises(BudgetExceeded) as caught:
            plan.check_budget(tokens, only(**{cost: costs * (1 - 1e-9)}))
        assert cost.replace("_", " ") in caught.value.message


@pytest.mark.parametrize(("cost", "kind"), [("rotations", OpKind.ROTATE), ("rescales", OpKind.RESCALE)])
@pytest.mark.parametrize("allowed", [0, 1, 2.5])
def test_the_operation_that_is_blamed_is_the_first_one_too_many(cost: str, kind: OpKind, allowed: float) -> None:
    packing = "rank_bsgs" if cost == "rotations" else "zero_moai"
    plan = compile_plan(ModuleShape.parse("1536:256:16"), get_manager().load_packing(packing), private_weights=False)
    with pytest.raises(BudgetExceeded) as caught:
        plan.check_budget(1, only(**{cost: allowed}))
    found = re.search(r"for one token %(\d+) = (.+?) is the first too many", caught.value.message)
    assert found
    place = int(found[1])
    before = [op.kind for op in plan.program.ops[:place]].count(kind)
    assert plan.program.ops[place].kind is kind
    assert before <= allowed < before + 1
    assert found[2] == describe(plan.program.ops[place])


def test_where_one_run_keeps_the_bound_of_one_token_no_operation_is_blamed() -> None:
    """Padding is to blame: three runs for five tokens."""
    plan = compile_plan(
        ModuleShape.parse("1536:256:16"), get_manager().load_packing("rank_bsgs"), tokens=2, private_weights=False
    )
    rotations = plan.counts.rotations
    tokens = plan.tokens_per_run + 1
    with pytest.raises(BudgetExceeded) as caught:
        plan.check_budget(tokens, only(rotations=rotations * 1.5 / tokens))
    assert "first too many" in caught.value.message
    check_budget(plan.counts, tokens=1, budget=only(rotations=rotations), program=plan.program)


@pytest.mark.parametrize("cost", ["key_bytes", "depth"])
def test_no_number_of_tokens_helps_against_what_is_paid_once(cost: str) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        check_budget(
            OperationCounts(rotations=9), tokens=1, budget=only(rotations=3, **{cost: 1}), sizes=Sizes(**{cost: 2})
        )
    assert f"{cost.replace('_', ' ')} of 2 (budget 1)" in caught.value.message
    assert "9 rotations per token (budget 3)" in caught.value.message
    assert "tokens" not in caught.value.hint


@given(
    used=st.builds(Sizes, bytes=st.integers(0, 10**9), key_bytes=st.integers(0, 10**9), depth=st.integers(0, 9)),
    tokens=st.integers(1, 99),
)
def test_without_bounds_nothing_is_refused(used: Sizes, tokens: int) -> None:
    check_budget(OperationCounts(rotations=10**9, rescales=10**9), tokens=tokens, budget=NONE, sizes=used)


@pytest.fixture(scope="module", params=["numpy", "tenseal"])
def outcome(request: pytest.FixtureRequest) -> ModuleResult:
    plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), tokens=4, private_weights=False)
    module = synthetic_module(SHAPE, seed=1, name="layers.0.q_proj")
    work = [ModuleJob(module, synthetic_activations(SHAPE, 6, seed=1), plan)]
    (outcome,) = run_adapter(get_manager().load_backend(request.param), work, private_weights=False)
    return outcome


class TestExecuted:
    """What was run is held against the budget too: by the ledger and by the bytes that really went over the wire."""

    def used(self, outcome: ModuleResult) -> dict[str, float]:
        run = outcome.report
        return {
            "rotations": run.executed.rotations / 6,
            "keyswitches": run.executed.keyswitches / 6,
            "rescales": run.executed.rescales / 6,
            "bytes": (run.bytes_up + run.bytes_down) / 6,
            "key_bytes": outcome.job.plan.key_bytes,
            "depth": 2,
        }

    @pytest.mark.parametrize("cost", BOUNDED)
    def test_a_run_fits_a_budget_of_what_it_took_and_none_below(self, outcome: ModuleResult, cost: str) -> None:
        used = self.used(outcome)[cost]
        require_budget([outcome], only(**{cost: used * (1 + 1e-12)}))
        with pytest.raises(BudgetExceeded) as caught:
            require_budget([outcome], only(**{cost: used * (1 - 1e-9)}))
        assert "layers.0.q_proj, 6 tokens executed" in caught.value.message
        assert cost.replace("_", " ") in caught.value.message
        assert caught.value.hint

    def test_no_bounds_no_refusal(self, outcome: ModuleResult) -> None:
        require_budget([outcome], NONE)

    def test_what_the_plan_promised_the_ledger_keeps(self, outcome: ModuleResult) -> None:
        """Operations are counted alike before and after; only bytes are estimates beforehand."""
        promised = costs_of(outcome.job.plan, 6)
        used: Any = self.used(outcome)
        assert {name: used[name] for name in BOUNDED if name != "bytes"} == {
            name: promised[name] for name in BOUNDED if name != "bytes"
        }
