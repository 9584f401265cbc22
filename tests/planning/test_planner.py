"""The planner takes what costs least of what is allowed, and says of everything else why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler.cost import NO_BUDGET, Budget, relative_cost
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.errors import (
    BudgetExceeded,
    CapabilityMissing,
    HeloraError,
    InsecureParameters,
    InvalidParameters,
    LeakageRefused,
    NothingEligible,
    PrecisionLost,
    ProfileMissing,
)
from helora_core.host.manager import get_manager
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.params.ckks import CKKSParams
from helora_core.planning.compiling import compile_plans
from helora_core.planning.planner import (
    CalibratedBackend,
    Candidate,
    choose,
    rank,
)
from helora_core.planning.predict import predict
from helora_core.planning.profile_files import write_profile
from tests.planning.conftest import OPEN, SHAPE, MakeProfile, asked, packings, times


@pytest.fixture
def ranked(calibrated: Callable[..., CalibratedBackend]) -> Callable[..., list[Candidate]]:
    """``ranked(names, constraints, tokens=…, shape=…, **milliseconds)`` on one calibrated machine."""

    def run(
        names: Sequence[str],
        constraints: Constraints = OPEN,
        tokens: int = 4,
        shape: ModuleShape = SHAPE,
        **milliseconds: float,
    ) -> list[Candidate]:
        asked = PlanRequest(shape=shape, tokens=(tokens,), constraints=constraints)
        return rank(asked, {"numpy": calibrated(**milliseconds)}, packings(*names))

    return run


def refusal_of(candidates: list[Candidate], packing: str) -> HeloraError:
    (found,) = [each for each in candidates if each.packing == packing]
    assert found.refusal is not None
    assert found.refusal.hint
    return found.refusal


class TestChoice:
    NAMES = ("rank_bsgs", "zero_moai", "cheetah", "outer_product")

    @pytest.mark.parametrize(
        "milliseconds",
        [
            {},
            {"rotate_first": 5, "rotate_further": 5},
            {"encrypt_slots": 50},
            {"decrypt_slots": 50},
            {"multiply_plain": 9},
        ],
        ids=str,
    )
    def test_the_first_is_the_one_of_least_predicted_time(
        self, ranked: Callable[..., list[Candidate]], milliseconds: dict[str, float], calibrated: Any
    ) -> None:
        candidates = ranked(self.NAMES, **milliseconds)
        eligible = [each for each in candidates if each.refusal is None]
        assert choose(candidates) is candidates[0]
        assert candidates[0].cost == min(each.cost for each in eligible)
        assert [each.cost for each in eligible] == sorted(each.cost for each in eligible)
        for each in eligible:
            assert each.plan is not None
            assert each.prediction == predict(each.plan, calibrated(**milliseconds).profile, tokens=4)
            assert each.cost == each.prediction.total_ms

    def test_dear_rotations_make_it_a_packing_without_any(self, ranked: Callable[..., list[Candidate]]) -> None:
        assert choose(ranked(self.NAMES, rotate_first=100, rotate_further=100)).packing in ("zero_moai", "cheetah")

    def test_more_key_switches_that_take_less_time_are_taken_within_the_budget(
        self, ranked: Callable[..., list[Candidate]]
    ) -> None:
        """Where decomposing is most of a rotation, folds and baby steps have more rotations of one value."""

        def switches(constraints: Constraints) -> int:
            found = choose(
                ranked(("rank_bsgs",), constraints, tokens=2, shape=wide, rotate_first=2, rotate_further=0.01)
            )
            assert found.plan is not None
            return found.plan.counts.keyswitches

        wide = ModuleShape.parse("1536:1536:16")
        fastest = switches(OPEN)
        assert fastest > 26
        budget = msgspec.structs.replace(NO_BUDGET, keyswitches=fastest / 2 - 1)
        assert switches(msgspec.structs.replace(OPEN, budget=budget)) == 19

    def test_a_packing_that_is_named_is_laid_out_by_the_backend_s_times(
        self, make_profile: MakeProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HELORA_PROFILES", str(tmp_path))
        wide = ModuleShape.parse("1536:1536:16")
        request = PlanRequest(
            shape=wide, tokens=(2,), constraints=OPEN, packing="rank_bsgs", backend="numpy", allow_emulation=True
        )
        (without,) = compile_plans(request)
        hoisting = make_profile(time=times(rotate_first=2, rotate_further=0.01), backend="numpy")
        write_profile(hoisting, tmp_path / "numpy.json")
        (calibrated,) = compile_plans(request)
        assert (without.counts.keyswitches, calibrated.packing.name) == (19, "rank_bsgs")
        assert calibrated.counts.keyswitches > 26

    def test_dear_encryptions_and_decryptions_of_coefficients_make_it_one_in_slots(
        self, ranked: Callable[..., list[Candidate]]
    ) -> None:
        expensive = {"encrypt_coefficients": 1000.0, "decrypt_coefficients": 1000.0}
        assert choose(ranked(self.NAMES, **expensive)).packing != "cheetah"

    def test_tokens_in_flight_change_the_choice(self, ranked: Callable[..., list[Candidate]]) -> None:
        """Two rounds encrypt and decrypt for every few tokens; diagonals share their rotations among many."""
        constraints, shape = Constraints(target_bits=10), ModuleShape.parse("1536:1536:16")
        milliseconds = {
            "rotate_first": 2.0,
            "rotate_further": 2.0,
            "mask": 2.0,
            "sanitize": 2.0,
            "sanitize_trimmed": 2.0,
        }
        chosen = [
            choose(ranked(("rank_bsgs", "cheetah_two_round"), constraints, tokens, shape, **milliseconds)).packing
            for tokens in (1, 512)
        ]
        assert chosen == ["cheetah_two_round", "rank_bsgs"]

    def test_latency_makes_one_round_win_over_two(self, ranked: Callable[..., list[Candidate]]) -> None:
        def chosen(rtt_ms: float) -> Candidate:
            constraints = Constraints(rtt_ms=rtt_ms)
            return choose(ranked(("rank_bsgs", "cheetah_two_round"), constraints, rotate_first=2, rotate_further=2))

        near, far = chosen(0), chosen(500)
        assert (near.packing, far.packing) == ("cheetah_two_round", "rank_bsgs")
        assert far.prediction is not None
        assert far.prediction.round_trip_ms == 500 * far.prediction.runs

    @pytest.mark.parametrize("rtt_ms", [0, 1, 10, 100])
    def test_latency_is_charged_to_each_by_its_rounds(
        self, ranked: Callable[..., list[Candidate]], rtt_ms: float
    ) -> None:
        for each in ranked(("rank_bsgs", "cheetah_two_round"), Constraints(rtt_ms=rtt_ms)):
            assert each.plan is not None
            assert each.prediction is not None
            assert each.prediction.round_trip_ms == rtt_ms * len(each.plan.rounds) * each.plan.runs(4)

    def test_a_larger_ring_is_looked_at_where_it_might_pay(self, ranked: Callable[..., list[Candidate]]) -> None:
        candidates = ranked(("rank_bsgs",), tokens=256)
        rings = [each.plan.params.ring_degree for each in candidates if each.plan is not None]
        assert len(rings) == 2
        assert max(rings) == 2 * min(rings)


class TestConstraints:
    def test_private_weights(self, ranked: Callable[..., list[Candidate]]) -> None:
        names = ("rank_bsgs", "cheetah_two_round", "zero_moai", "cheetah")
        candidates = ranked(names, Constraints())
        assert {each.packing for each in candidates if each.refusal is None} == {"rank_bsgs", "cheetah_two_round"}
        for name in ("zero_moai", "cheetah"):
            refusal = refusal_of(candidates, name)
            assert type(refusal) is LeakageRefused
            assert "rank_bsgs or cheetah_two_round" in refusal.hint

    def test_private_weights_want_sanitised_results(self, ranked: Callable[..., list[Candidate]]) -> None:
        candidates = ranked(("rank_bsgs",), Constraints(sanitize_bits=None))
        assert type(refusal_of(candidates, "rank_bsgs")) is LeakageRefused
        assert "--sanitize 40" in refusal_of(candidates, "rank_bsgs").hint

    @pytest.mark.parametrize(
        ("budget", "named"),
        [
            ({"rotations": 1}, "rotations per token"),
            ({"keyswitches": 1}, "keyswitches per token"),
            ({"rescales": 0}, "rescales per token"),
            ({"bytes": 1000}, "bytes per token"),
            ({"key_bytes": 1000}, "key bytes"),
            ({"depth": 1}, "depth"),
        ],
        ids=str,
    )
    def test_budgets(self, ranked: Callable[..., list[Candidate]], budget: dict[str, float], named: str) -> None:
        bounds = Budget(**{**dict.fromkeys(("rotations", "keyswitches", "rescales")), **budget})
        candidates = ranked(("rank_bsgs",), Constraints(private_weights=False, sanitize_bits=None, budget=bounds), 1)
        refusal = refusal_of(candidates, "rank_bsgs")
        assert type(refusal) is BudgetExceeded
        assert named in refusal.message

    def test_a_budget_leaves_those_that_keep_it(self, ranked: Callable[..., list[Candidate]]) -> None:
        budget = Budget(rotations=0, keyswitches=0, rescales=None)
        constraints = Constraints(private_weights=False, sanitize_bits=None, budget=budget)
        candidates = ranked(("rank_bsgs", "zero_moai"), constraints, rotate_first=1e-6, rotate_further=1e-6)
        assert choose(candidates).packing == "zero_moai"

    def test_precision(self, ranked: Callable[..., list[Candidate]]) -> None:
        candidates = ranked(("rank_bsgs",), Constraints(private_weights=False, sanitize_bits=None, target_bits=30))
        assert isinstance(refusal_of(candidates, "rank_bsgs"), (PrecisionLost, InvalidParameters))
        assert "bits" in refusal_of(candidates, "rank_bsgs").message

    def test_the_ring(self, ranked: Callable[..., list[Candidate]]) -> None:
        (only,) = ranked(("rank_bsgs",), Constraints(private_weights=False, sanitize_bits=None, ring_degree=16384))
        assert only.plan is not None
        assert only.plan.params.ring_degree == 16384
        small = ranked(("rank_bsgs",), Constraints(private_weights=False, sanitize_bits=None, ring_degree=2048))
        assert isinstance(refusal_of(small, "rank_bsgs"), (InsecureParameters, InvalidParameters))

    def test_security(self, ranked: Callable[..., list[Candidate]]) -> None:
        def ring(security_bits: int) -> int:
            constraints = Constraints(private_weights=False, sanitize_bits=None, security_bits=security_bits)
            plans = [each.plan for each in ranked(("rank_bsgs",), constraints)]
            assert all(plan is not None and plan.verdict.asked_bits == security_bits for plan in plans)
            return min(plan.params.ring_degree for plan in plans if plan is not None)

        assert ring(128) < ring(256)
        constraints = Constraints(private_weights=False, sanitize_bits=None, security_bits=256, ring_degree=8192)
        refusal = refusal_of(ranked(("rank_bsgs",), constraints), "rank_bsgs")
        assert isinstance(refusal, (InsecureParameters, InvalidParameters))

    def test_the_backend_must_be_able_to(
        self, calibrated: Callable[..., CalibratedBackend], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        machine = calibrated()
        lacking = msgspec.structs.replace(machine.backend.capabilities, public_key=False)  # type: ignore[union-attr]
        monkeypatch.setattr(machine.backend, "capabilities", lacking, raising=False)
        candidates = rank(asked(1, Constraints()), {"numpy": machine}, packings("rank_bsgs"))
        assert type(refusal_of(candidates, "rank_bsgs")) is CapabilityMissing

    def test_what_was_not_calibrated_is_refused_by_name(self, make_profile: MakeProfile) -> None:
        profile = make_profile(CKKSParams(ring_degree=65536, data_bits=(60,), special_bits=(), scale_bits=30))
        machine = CalibratedBackend(get_manager().load_backend("numpy"), profile)
        (only,) = rank(asked(1), {"numpy": machine}, packings("rank_bsgs"))
        assert type(only.refusal) is ProfileMissing


class TestRefusals:
    def test_nothing_eligible_gives_every_reason(self) -> None:
        refusals = [
            LeakageRefused("it leaks", hint="-"),
            BudgetExceeded("too expensive", hint="-"),
            PrecisionLost("no", hint="-"),
        ]
        candidates = [Candidate("numpy", f"packing_{i}", refusal=refusal) for i, refusal in enumerate(refusals)]
        with pytest.raises(NothingEligible) as caught:
            choose(candidates)
        for each, refusal in zip(candidates, refusals, strict=True):
            assert f"{each.packing} on numpy: {refusal.message}" in caught.value.message

    def test_one_kind_of_reason_is_raised_itself(self, ranked: Callable[..., list[Candidate]]) -> None:
        """Packings that are refused for what they show say nothing of what was asked."""
        budget = Budget(rotations=0, keyswitches=0, rescales=None)
        with pytest.raises(BudgetExceeded, match="budget 0"):
            choose(ranked(("zero_moai", "rank_bsgs"), Constraints(budget=budget)))

    def test_without_any_candidate_it_says_so(self) -> None:
        with pytest.raises(NothingEligible, match="no packings or backends"):
            choose([])

    def test_refused_candidates_come_last_and_cost_infinitely_much(
        self, ranked: Callable[..., list[Candidate]]
    ) -> None:
        candidates = ranked(("zero_moai", "rank_bsgs", "cheetah"), Constraints())
        assert [each.refusal is None for each in candidates] == sorted(
            (each.refusal is None for each in candidates), reverse=True
        )
        assert all(math.isinf(each.cost) for each in candidates if each.refusal is not None)

    def test_what_is_hopelessly_dear_is_not_compiled(self, ranked: Callable[..., list[Candidate]]) -> None:
        candidates = ranked(("rank_bsgs", "cpmm"), tokens=1, shape=ModuleShape.parse("64:64:4"), multiply_scalar=1)
        refusal = refusal_of(candidates, "cpmm")
        assert "times as much" in refusal.message
        assert "--packing" in refusal.hint


class TestWithoutProfile:
    @pytest.mark.parametrize("backend", [None, "numpy"])
    def test_relative_costs_rank_the_plans(self, backend: str | None) -> None:
        machine = CalibratedBackend(backend and get_manager().load_backend(backend), None)  # type: ignore[arg-type]
        candidates = rank(asked(4), {"x": machine}, packings("rank_bsgs", "zero_moai"))
        for each in candidates:
            assert each.plan is not None
            assert each.prediction is None
            assert each.cost == each.plan.runs(4) * relative_cost(each.plan.program, DEFAULT_COSTS)
        assert choose(candidates).cost == min(each.cost for each in candidates)
        assert len(candidates) == 2


class TestZeros:
    def test_what_a_modules_zeros_make_superfluous_is_not_charged_for(
        self, calibrated: Callable[..., CalibratedBackend]
    ) -> None:
        dense = synthetic_module(SHAPE, seed=1)
        gated = LoRAModule("gated", dense.down, dense.up, 0.0)
        machine = {"numpy": calibrated(rotate_first=1)}
        costs = [
            choose(rank(asked(4, module=module), machine, packings("rank_bsgs"))).cost for module in (dense, gated)
        ]
        assert costs[0] > costs[1] == 0


def test_no_budget_is_no_bound() -> None:
    assert set(NO_BUDGET.__struct_fields__) == {
        name for name in NO_BUDGET.__struct_fields__ if getattr(NO_BUDGET, name) is None
    }
