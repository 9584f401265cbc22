"""A constraint that the smallest ring breaks is tried in larger ones; what no ring keeps is refused in plain words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import Budget
from helora_core.compiler.precision import PrecisionReport, check_precision
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.errors import BudgetExceeded, LeakageRefused, NothingEligible, PrecisionLost
from helora_core.host.manager import get_manager
from helora_core.planning.planner import CalibratedBackend, Candidate, choose, rank
from helora_core.planning.profile import Profile

SHAPE = ModuleShape.parse("256:128:8")
TOKENS = 2048


@pytest.fixture(params=[True, False], ids=["calibrated", "uncalibrated"])
def machine(request: pytest.FixtureRequest, make_profile: Callable[..., Profile]) -> CalibratedBackend:
    profile = make_profile(time=lambda operation, level, ring: 1e3 * ring, backend="numpy") if request.param else None
    return CalibratedBackend(get_manager().load_backend("numpy"), profile)


def ranked(machine: CalibratedBackend, rotations: float, ring_degree: int | None = None) -> list[Candidate]:
    budget = Budget(rotations=rotations, keyswitches=None, rescales=None)
    constraints = Constraints(private_weights=False, sanitize_bits=None, budget=budget, ring_degree=ring_degree)
    request = PlanRequest(shape=SHAPE, tokens=(TOKENS,), constraints=constraints)
    return rank(request, {"numpy": machine}, [get_manager().load_packing("rank_bsgs")])


def rotations_per_token(ring_degree: int | None) -> float:
    plan = compile_plan(
        SHAPE, get_manager().load_packing("rank_bsgs"), tokens=TOKENS, ring_degree=ring_degree, private_weights=False
    )
    return plan.counts.times(plan.runs(TOKENS)).rotations / TOKENS


def test_a_budget_that_the_smallest_ring_breaks_is_kept_by_a_larger_one(machine: CalibratedBackend) -> None:
    smallest, larger = rotations_per_token(None), rotations_per_token(16384)
    assert larger < smallest
    (only,) = ranked(machine, (smallest + larger) / 2)
    assert only.refusal is None
    assert only.plan is not None
    assert only.plan.params.ring_degree == 16384


def test_a_budget_that_no_ring_keeps_is_refused_once_for_the_smallest(machine: CalibratedBackend) -> None:
    (only,) = ranked(machine, rotations_per_token(16384) / 2)
    assert isinstance(only.refusal, BudgetExceeded)
    assert f"{rotations_per_token(None):g} rotations per token" in only.refusal.message


def test_a_ring_that_was_asked_for_is_the_only_one(machine: CalibratedBackend) -> None:
    budget = (rotations_per_token(8192) + rotations_per_token(16384)) / 2
    (only,) = ranked(machine, budget, ring_degree=8192)
    assert isinstance(only.refusal, BudgetExceeded)


def test_reasons_are_one_sentence_with_one_full_stop() -> None:
    refusals = (
        LeakageRefused("It leaks.", hint="-"),
        BudgetExceeded("Too expensive.", hint="-"),
        PrecisionLost("No", hint=""),
    )
    with pytest.raises(NothingEligible) as caught:
        choose([Candidate("numpy", f"packing_{i}", refusal=refusal) for i, refusal in enumerate(refusals)])
    assert caught.value.message.endswith(
        "constraints: packing_0 on numpy: It leaks; packing_1 on numpy: Too expensive; packing_2 on numpy: No."
    )


def test_an_error_above_the_result_keeps_no_bits_and_not_fewer() -> None:
    lost = PrecisionReport(bits=-3.2, error_bound=9.0, terms={"encryption": 1.0}, flood_bits={}, mask_bits={})
    with pytest.raises(PrecisionLost, match=r"expected to keep 0\.0 bits of Δ; 12 were asked for\."):
        check_precision(lost, 12)
