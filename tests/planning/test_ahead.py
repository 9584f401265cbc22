"""Batches are spread over the tokens that use them; what they cost then is weighed, and told when it pays.

Long, since choice, prediction and explanation are held to one set of plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler.ahead import chain_ahead
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import Budget, relative_cost
from helora_core.compiler.phases import Traffic
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.errors import (
    BudgetExceeded,
    InvalidInput,
    LeakageRefused,
    PrecisionLost,
    ProfileMissing,
    SlotOverflow,
)
from helora_core.host.manager import get_manager
from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import Layout, Packing
from helora_core.planning.ahead import Ahead, charged_runs
from helora_core.planning.compiling import compile_plans
from helora_core.planning.joint import ranked_together
from helora_core.planning.planner import CalibratedBackend, Candidate, choose, rank
from helora_core.planning.predict import Prediction, bottleneck, predict
from tests.planning.conftest import SHAPE, MakeProfile, packings
from tests.registered import ACCEPTED, packings_ahead

ONE_MS = 1e6
N = 8192

Calibrated = Callable[..., CalibratedBackend]


def asking(tokens: int = 16, module: LoRAModule | None = None, **constraints: Any) -> PlanRequest:
    """A request whose owner accepts every assumption."""
    wishes = Constraints(**{"assume": ACCEPTED, "target_bits": 10.0, **constraints})
    return PlanRequest(shape=SHAPE, module=module, tokens=(tokens,), constraints=wishes)


def plan_of(packing: str = "precomputed") -> Plan:
    strategy = get_manager().load_packing(packing)
    return compile_plan(SHAPE, strategy, assume=ACCEPTED, precision_bits=10.0)


def batches(size: int, expected: int, batch_ms: float) -> Ahead:
    return Ahead(size, expected, batch_ms / 4, 3 * batch_ms / 4, Traffic(1000, 100), 24)


tokens = st.integers(1, 10**6)


class TestBatches:
    @given(st.integers(1, 10**4), tokens, st.floats(0.001, 1e6))
    def test_they_are_paid_for_whole_and_by_the_tokens_that_are_used(
        self, size: int, expected: int, batch_ms: float
    ) -> None:
        found, full = batches(size, expected, batch_ms), batch_ms / size
        assert found.ms_per_token >= full * (1 - 1e-12)
        assert found.ms_per_token * expected == pytest.approx(found.batches * batch_ms)
        assert found.ms_per_token * expected < full * (expected + size)
        assert batches(size, size, batch_ms).ms_per_token == pytest.approx(full)
        assert batches(size, found.batches * size, batch_ms).ms_per_token == pytest.approx(full)

    @given(st.integers(1, 10**4), tokens, tokens, st.floats(0.001, 1e6))
    def test_more_tokens_never_take_less_in_all(self, size: int, one: int, other: int, batch_ms: float) -> None:
        few, many = (batches(size, expected, batch_ms) for expected in sorted((one, other)))
        assert few.batches <= many.batches
        if few.batches == many.batches:
            assert few.ms_per_token >= many.ms_per_token
            assert few.bytes_per_token >= many.bytes_per_token


class TestWhenItPays:
    @given(st.integers(1, 500), st.floats(0, 1e4), st.floats(0, 20), st.floats(0, 30), st.data())
    def test_from_there_on_every_number_pays_and_the_one_before_does_not(
        self, size: int, batch_ms: float, online_ms: float, other_ms: float, data: st.DataObject
    ) -> None:
        found = batches(size, 1, batch_ms)
        start = found.pays_from(online_ms, other_ms)

        def lost_ms(used: int) -> float:
            """What it takes longer than the other plan."""
            return -(-used // size) * batch_ms + used * (online_ms - other_ms)

        slack = 1e-9 * (1 + batch_ms * 10**6)
        if start is None:
            assert lost_ms(10**6 * size + 1) > -slack
        else:
            later = data.draw(st.integers(0, 10 * size) | st.integers(0, 10**6))
            assert lost_ms(start + later) <= slack
            assert start == 1 or lost_ms(start - 1) > -slack

    @pytest.mark.parametrize(
        ("batch_ms", "other_ms", "start"),
        [
            (50.0, 1.0, 50),
            (0.5, 1.0, 1),
            (60.0, 1.0, 120),  # 60 tokens pay for one batch, but 101 do not for two
            (99.0, 1.0, 99 * 98),
            (100.0, 1.0, None),
            (50.0, 0.0, None),
            (0.0, 0.0, 1),
        ],
    )
    def test_examples(self, batch_ms: float, other_ms: float, start: int | None) -> None:
        assert batches(100, 1, batch_ms).pays_from(0.0, other_ms) == start


def charged(make_profile: MakeProfile, plan: Plan, tokens: int) -> tuple[Counter[str], Counter[str]]:
    """How often each operation is charged for, in a batch and online: each in turn takes a millisecond."""
    in_batch: Counter[str] = Counter()
    online: Counter[str] = Counter()
    for figure in make_profile(plan.params).chains[0].figures:
        here = figure.operation
        profile = make_profile(plan.params, time=lambda operation, level, ring, here=here: ONE_MS * (operation == here))
        found = predict(plan, profile, tokens=tokens)
        assert found.ahead is not None
        in_batch[here] = round(found.ahead.batch_ms)
        online[here] = round(found.online_ms)
    return +in_batch, +online


class TestCharges:
    @pytest.mark.parametrize("packing", packings_ahead())
    def test_a_batch_is_what_the_plan_counts(self, make_profile: MakeProfile, packing: str) -> None:
        plan = plan_of(packing)
        counts, (in_batch, _) = plan.counts, charged(make_profile, plan, 3)
        ending = "_exact" if "exact" in packing else ""
        assert in_batch == {
            "ahead_key": 1,
            "ahead_sums": 1,
            "ahead_draw": counts.encrypts + counts.decrypts,
            "ahead_encrypt": counts.encrypts,
            "ahead_receive": counts.encrypts,
            "ahead_multiply_down": SHAPE.rank * SHAPE.d_in,
            "ahead_multiply_up": SHAPE.rank * SHAPE.d_out,
            f"ahead_result{ending}": counts.sanitizes,
            f"ahead_decrypt{ending}": counts.decrypts,
        }
        assert in_batch["ahead_multiply_down"] + in_batch["ahead_multiply_up"] == counts.ct_pt

    @pytest.mark.parametrize("used", [1, 7])
    def test_a_request_is_charged_for_its_tokens(self, make_profile: MakeProfile, used: int) -> None:
        plan = plan_of()
        _, online = charged(make_profile, plan, used)
        assert online == {
            "online_pad": 1,
            "online_pad_word": used * SHAPE.d_in,
            "online_answer": 1,
            "online_multiply": used * plan.to_dict()["phases"]["online"]["multiplications_per_token"],
            "online_answer_word": used * SHAPE.d_out,
            "online_open": 1,
            "online_open_word": used * SHAPE.d_out,
        }

    def test_phases_add_up(self, make_profile: MakeProfile) -> None:
        plan = plan_of()
        found = predict(plan, make_profile(plan.params), tokens=16, rtt_ms=5, ahead=100)
        assert found.ahead is not None
        phases = found.encrypt_ms + found.compute_ms + found.decrypt_ms + found.round_trip_ms
        assert found.online_ms == pytest.approx(phases)
        assert found.ahead_ms == pytest.approx(16 / 100 * found.ahead.batch_ms)
        assert found.total_ms == pytest.approx(found.online_ms + found.ahead_ms)
        assert sum(found.by_operation.values()) == pytest.approx(found.compute_ms)

    def test_bytes_are_those_of_the_plan(self, make_profile: MakeProfile) -> None:
        plan = plan_of()
        found = predict(plan, make_profile(plan.params), tokens=1, ahead=plan.tokens_per_run).ahead
        assert found is not None
        offline = plan.to_dict()["phases"]["offline"]
        up, down = found.bytes_per_token
        assert (up, down) == pytest.approx((offline["bytes_up_per_token"], offline["bytes_down_per_token"]), abs=1)
        assert found.kept_bytes == offline["kept_bytes_per_token"]

    def test_latency_is_paid_once_a_request_and_never_ahead_of_time(self, make_profile: MakeProfile) -> None:
        plan = plan_of()
        near, far = (predict(plan, make_profile(plan.params), tokens=64, rtt_ms=rtt_ms) for rtt_ms in (0, 20))
        assert far.round_trip_ms == 20
        assert far.total_ms - near.total_ms == pytest.approx(20)
        assert far.ahead == near.ahead

    def test_what_was_not_timed_is_missing_for_those_who_need_it(self, make_profile: MakeProfile) -> None:
        profile = make_profile(chain_ahead(N), without={("ahead_result_exact", 1)})
        assert predict(plan_of("precomputed"), profile, tokens=1).total_ms > 0
        with pytest.raises(ProfileMissing, match="ahead_result_exact"):
            predict(plan_of("precomputed_exact"), profile, tokens=1)

    def test_a_profile_without_such_chains_says_so(self, make_profile: MakeProfile) -> None:
        plain = chain_ahead(N)
        profile = make_profile(type(plain)(ring_degree=N, data_bits=(42, 42), special_bits=(), scale_bits=40))
        with pytest.raises(ProfileMissing, match="ring degree 8192 with 2 data primes and a wrap limb; it has ring"):
            predict(plan_of(), profile, tokens=1)


SLOW_AHEAD = {"ahead_encrypt": 10.0, "rotate_first": 5.0, "rotate_further": 5.0, "multiply_plain": 5.0}
"""A batch takes 2.6 s, and a token online some milliseconds without one."""


def found(machine: CalibratedBackend, request: PlanRequest, *names: str) -> list[Candidate]:
    return rank(request, {"numpy": machine}, packings(*(names or ("rank_bsgs", "precomputed"))))


def prediction_of(candidates: list[Candidate], packing: str) -> Prediction:
    prediction = next(each.prediction for each in candidates if each.packing == packing)
    assert prediction is not None
    return prediction


class TestChoice:
    def test_it_is_prepared_for_enough_tokens_and_never_for_a_few(self, calibrated: Calibrated) -> None:
        machine = calibrated(**SLOW_AHEAD)
        assert choose(found(machine, asking())).packing == "rank_bsgs"
        assert choose(found(machine, asking(ahead=100_000))).packing == "precomputed"

    def test_it_flips_where_it_is_said_to_pay(self, calibrated: Calibrated) -> None:
        machine = calibrated(**SLOW_AHEAD)
        candidates = found(machine, asking())
        ours, other = (prediction_of(candidates, name) for name in ("precomputed", "rank_bsgs"))
        assert ours.ahead is not None
        start = ours.ahead.pays_from(ours.online_ms / 16, other.ms_per_token)
        assert start is not None
        assert choose(found(machine, asking(ahead=start))).packing == "precomputed"
        assert choose(found(machine, asking(ahead=start - 1))).packing == "rank_bsgs"

    def test_the_tokens_of_a_request_are_used_at_least(self, calibrated: Calibrated) -> None:
        machine = calibrated(**SLOW_AHEAD)
        said, unsaid = (found(machine, asking(5000, ahead=ahead)) for ahead in (1, None))
        assert [each.cost for each in said] == [each.cost for each in unsaid]
        used = prediction_of(said, "precomputed").ahead
        assert used is not None
        assert used.expected == 5000

    @pytest.mark.parametrize(
        ("wishes", "chosen"),
        [
            ({"ahead": 10**6}, "precomputed"),
            ({}, "online"),
            ({"ahead": 10**6, "assume": frozenset()}, "online"),
        ],
        ids=["enough tokens", "a few", "not accepted"],
    )
    def test_auto_compiles_what_is_chosen(self, wishes: dict[str, Any], chosen: str) -> None:
        request = replace(asking(**wishes), backend="numpy")
        (plan,) = compile_plans(request)
        assert (plan.packing.name if plan.correlation else "online") == chosen

    def test_nothing_rests_on_what_was_not_accepted(self, calibrated: Calibrated) -> None:
        candidates = found(calibrated(**SLOW_AHEAD), asking(ahead=100_000, assume=frozenset()))
        assert choose(candidates).packing == "rank_bsgs"
        assert type(candidates[-1].refusal) is LeakageRefused
        assert candidates[-1].plan is None

    def test_its_round_trip_weighs_as_much_as_any(self, calibrated: Calibrated) -> None:
        """Sixteen tokens in one request wait once; in the two rounds of another packing twice."""
        machine = calibrated(**{**SLOW_AHEAD, "sanitize": 0.0, "mask": 0.0, "unmask": 0.0})
        names = ("precomputed", "cheetah_two_round")
        near, far = (found(machine, asking(ahead=1000, rtt_ms=rtt_ms), *names) for rtt_ms in (0.0, 1000.0))
        assert (choose(near).packing, choose(far).packing) == ("cheetah_two_round", "precomputed")

    def test_what_it_is_compared_with_is_compiled_however_little_it_takes(self, calibrated: Calibrated) -> None:
        machine = calibrated(rotate_first=100.0, rotate_further=100.0)
        candidates = found(machine, asking(ahead=100_000), "precomputed", "rank_bsgs")
        assert all(each.refusal is None for each in candidates)
        assert prediction_of(candidates, "rank_bsgs").total_ms > 20 * prediction_of(candidates, "precomputed").total_ms

    def test_a_machine_without_such_figures_has_its_other_packings(self, make_profile: MakeProfile) -> None:
        whole = make_profile(backend="numpy")
        online = type(whole)(
            provenance=whole.provenance, chains=tuple(each for each in whole.chains if not each.wrap_bits)
        )
        candidates = found(CalibratedBackend(get_manager().load_backend("numpy"), online), asking(ahead=100_000))
        assert choose(candidates).packing == "rank_bsgs"
        assert type(candidates[-1].refusal) is ProfileMissing

    def test_without_a_profile_relative_costs_are_spread_likewise(self) -> None:
        machine = CalibratedBackend(get_manager().load_backend("numpy"), None)
        (few,), (many,) = (found(machine, asking(ahead=ahead), "precomputed") for ahead in (None, 2 * N))
        for each, share in ((few, 1.0), (many, 16 / N)):
            assert each.plan is not None
            assert each.cost == pytest.approx(share * relative_cost(each.plan.program, each.plan.costs))

    def test_nothing_is_prepared_for_a_module_that_is_zero(self, calibrated: Calibrated) -> None:
        dense = synthetic_module(SHAPE, seed=1)
        gated = LoRAModule("gated", dense.down, dense.up, 0.0)
        (only,) = found(calibrated(**SLOW_AHEAD), asking(module=gated), "precomputed")
        assert only.refusal is None
        assert only.cost == 0
        assert only.prediction is not None
        assert only.prediction.ahead is None

    def test_what_it_is_bound_by_is_told(self, calibrated: Calibrated) -> None:
        machine = calibrated(**SLOW_AHEAD)
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "preparation-bound"),
            ({"ahead": 10**6, "rtt_ms": 1e3}, "latency-bound"),
        )
        for wishes, label in cases:
            prediction = prediction_of(found(machine, asking(**wishes)), "precomputed")
            told = bottleneck(prediction)
            assert told.label == label
            parts = (prediction.ahead_ms, prediction.round_trip_ms)
            assert told.share == pytest.approx(max(parts) / prediction.total_ms)

    def test_its_precision_is_fixed_and_has_a_bound_of_its_own(self, calibrated: Calibrated) -> None:
        machine, bits = calibrated(**SLOW_AHEAD), plan_of().precision().bits
        for fixed_bits, refused in ((None, True), (bits - 0.1, False), (bits + 0.1, True)):
            (only,) = found(machine, asking(target_bits=bits + 1, fixed_bits=fixed_bits), "precomputed")
            assert type(only.refusal) is (PrecisionLost if refused else type(None))
        (online,) = {each.refusal for each in found(machine, asking(target_bits=14.0, fixed_bits=60.0), "rank_bsgs")}
        assert online is None

    @pytest.mark.parametrize("ahead", [0, -1])
    def test_no_tokens_are_no_expectation(self, ahead: int) -> None:
        with pytest.raises(InvalidInput, match="ahead"):
            Constraints(ahead=ahead)


class TestBytes:
    """A budget on bytes holds for both phases, whether the packing is named or chosen."""

    def budget(self, bytes_: float, ahead: int | None) -> PlanRequest:
        return asking(ahead=ahead, budget=Budget(rotations=None, keyswitches=None, rescales=None, bytes=bytes_))

    def test_it_counts_a_tokens_share_of_the_batches(self, calibrated: Calibrated) -> None:
        plan = plan_of()
        online, batch = sum(plan.bytes_for(16)) / 16, sum(plan.ahead_bytes)
        allowed = online + batch / 4000
        (within,) = found(calibrated(), self.budget(allowed, 4000), "precomputed")
        assert within.refusal is None
        (beyond,) = found(calibrated(), self.budget(allowed, 3900), "precomputed")
        assert type(beyond.refusal) is BudgetExceeded
        assert "ahead of time" in beyond.refusal.message
        assert "if 4000 tokens of each batch" in beyond.refusal.hint
        for ahead, refused in ((4000, False), (None, True)):
            request = self.budget(allowed, ahead)
            named = PlanRequest(
                shape=SHAPE, tokens=(16,), constraints=request.constraints, packing="precomputed", backend="numpy"
            )
            if refused:
                with pytest.raises(BudgetExceeded, match="ahead of time"):
                    compile_plans(named)
            else:
                assert compile_plans(named)[0].digest == plan.digest

    def test_where_no_batch_helps_the_hint_does_not_promise_any(self, calibrated: Calibrated) -> None:
        (beyond,) = found(calibrated(), self.budget(1000, 10**6), "precomputed")
        assert beyond.refusal is not None
        assert "--ahead" not in beyond.refusal.hint

    def test_what_runs_online_prepares_nothing(self) -> None:
        plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"))
        assert charged_runs(plan, 100, 10**6) == plan.runs(100)


class OnlyTogether:
    """A packing that does not run single tokens."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packing, name)

    def layouts(self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts) -> Iterator[Layout]:
        if tokens == 1:
            raise SlotOverflow("One token is too few.", hint="Run more.")
        return self._packing.layouts(shape, slots, tokens=tokens, costs=costs)


def test_plans_for_several_numbers_of_tokens_stay_in_the_ring_that_hides_most() -> None:
    """A packing that runs online brings a ring into the comparison that is too small to hide noise for long."""
    machine = CalibratedBackend(get_manager().load_backend("numpy"), None)
    ahead, online = packings("precomputed", "zero_moai")
    open_weights = {"private_weights": False, "sanitize_bits": None}
    request = PlanRequest(
        shape=ModuleShape.parse("64:64:4"),
        tokens=(1, 64),
        constraints=Constraints(assume=ACCEPTED, target_bits=8.0, ahead=10**6, **open_weights),
    )
    found = ranked_together(request, "numpy", machine, [ahead, OnlyTogether(online)])  # type: ignore[list-item]
    rings = {(plan.correlation is None, plan.params.ring_degree) for each in found for plan in each.plans}
    assert rings == {(False, N), (True, 4096)}
