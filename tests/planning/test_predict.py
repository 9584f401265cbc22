"""A prediction is a plan's operations, each once and at its own level, times the profile; and what it is bound by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import least_divisions
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import ProfileMissing
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.planning.charges import whole_charges
from helora_core.planning.predict import Prediction, bottleneck, operation_costs, predict
from helora_core.planning.profile import Figure, Profile

Time = Callable[[str, int, int], float]
MakeProfile = Callable[..., Profile]

SHAPE = ModuleShape.parse("96:64:8")
ONE_MS = 1e6

PLANS = {
    "rank_bsgs": {},
    "rank_bsgs sanitised": {"sanitize_bits": 40},
    "zero_moai": {},
    "outer_product": {"tokens": 8},
    "halevi_shoup": {},
    "cpmm": {},
    "cheetah": {"tokens": 2},
    "cheetah_two_round": {"sanitize_bits": 40},
}


@pytest.fixture(scope="module", params=list(PLANS))
def plan(request: pytest.FixtureRequest) -> Plan:
    options: dict[str, Any] = PLANS[request.param]
    return compile_plan(
        SHAPE, get_manager().load_packing(request.param.partition(" ")[0]), **options, private_weights=False
    )


def charged(make_profile: MakeProfile, plan: Plan) -> Counter[tuple[str, int]]:
    """How often each operation is charged for, by level: each in turn takes a millisecond, and all others nothing."""
    counts: Counter[tuple[str, int]] = Counter()
    for figure in make_profile(plan.params).chains[0].figures:
        here = (figure.operation, figure.level)

        def time(operation: str, level: int, ring: int, here: tuple[str, int] = here) -> float:
            return ONE_MS * ((operation, level) == here)

        total = predict(plan, make_profile(plan.params, time=time), tokens=1).total_ms
        if total:
            counts[here] = round(total)
            assert total == pytest.approx(counts[here])
    return counts


class TestCounts:
    def test_each_operation_is_charged_once(self, make_profile: MakeProfile, plan: Plan) -> None:
        if plan.packing.name == "cpmm":
            pytest.skip("its thousands of operations are charged for in the next test")
        counts = charged(make_profile, plan)

        def of(*operations: str) -> int:
            return sum(times for (operation, _), times in counts.items() if operation in operations)

        encoding = plan.program.encoding.value
        kinds = Counter(op.kind for op in plan.program.ops)
        assert of("rotate_first", "rotate_further") == plan.counts.rotations
        assert of("multiply_plain", "dot_first", "dot_further", "multiply_scalar") == plan.counts.ct_pt
        divided = sum(op.steps for op in plan.program.ops if op.kind is OpKind.SANITIZE)
        assert of("rescale") == plan.counts.rescales + divided
        assert of("sanitize", "sanitize_trimmed", "mask") == plan.counts.sanitizes
        assert (of("mask"), of("unmask")) == (kinds[OpKind.MASK], kinds[OpKind.UNMASK])
        assert of("add", "dot_further") == plan.counts.additions - kinds[OpKind.UNMASK]
        assert of(f"encrypt_{encoding}") == plan.counts.encrypts
        assert of(f"decrypt_{encoding}") == plan.counts.decrypts
        assert of("client_send") == of("server_receive") == plan.counts.encrypts
        assert of("server_send") == of("client_receive") == plan.counts.decrypts

    def test_each_is_charged_at_its_own_level(self, make_profile: MakeProfile, plan: Plan) -> None:
        """A power of the level tells levels apart; the total is that of the operations, counted here by themselves."""
        names = {OpKind.ADD: "add", OpKind.RESCALE: "rescale", OpKind.MULTIPLY_PLAIN: "multiply_plain"}
        for kind, name in names.items():
            expected = sum(10.0 ** plan.values[op.args[0]].level for op in plan.program.ops if op.kind is kind)
            if kind is OpKind.RESCALE:
                clean = [op for op in plan.program.ops if op.kind is OpKind.SANITIZE]
                expected += sum(
                    10.0 ** (plan.values[op.args[0]].level - each) for op in clean for each in range(op.steps)
                )

            def time(operation: str, level: int, ring: int, name: str = name) -> float:
                return ONE_MS * 10.0**level * (operation == name)

            predicted = predict(plan, make_profile(plan.params, time=time), tokens=1)
            if name == "add" and plan.packing.name == "cpmm":
                assert predicted.total_ms >= expected  # sums of products with numbers are additions too
            else:
                assert predicted.total_ms == pytest.approx(expected)

    def test_neighbouring_rotations_of_one_value_are_further_ones(self, make_profile: MakeProfile) -> None:
        plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), private_weights=False)
        counts = charged(make_profile, plan)
        groups = list(plan.program.hoisted_groups())
        assert sum(times for (name, _), times in counts.items() if name == "rotate_first") == len(groups)
        further = sum(times for (name, _), times in counts.items() if name == "rotate_further")
        assert further == plan.counts.rotations - len(groups) > 0

    def test_phases_and_parts_add_up(self, make_profile: MakeProfile, plan: Plan) -> None:
        profile = make_profile(plan.params, time=lambda operation, level, ring: 1000.0 * len(operation) * (level + 1))
        found = predict(plan, profile, tokens=3, rtt_ms=5)
        assert sum(found.by_operation.values()) == pytest.approx(found.compute_ms)
        parts = found.encrypt_ms + found.compute_ms + found.decrypt_ms + found.round_trip_ms
        assert found.total_ms == pytest.approx(parts)
        assert found.ms_per_token == pytest.approx(found.total_ms / 3)
        assert list(found.by_operation.values()) == sorted(found.by_operation.values(), reverse=True)


class TestRunsAndRoundTrips:
    def test_every_run_is_paid_for_and_padding_by_the_tokens_there_are(self, make_profile: MakeProfile) -> None:
        plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), private_weights=False)
        profile, full = make_profile(plan.params), plan.tokens_per_run
        one, over = (predict(plan, profile, tokens=tokens) for tokens in (full, full + 1))
        assert (one.runs, over.runs) == (1, 2)
        assert over.total_ms == pytest.approx(2 * one.total_ms)
        assert predict(plan, profile, tokens=1).ms_per_token == pytest.approx(full * one.ms_per_token)

    @pytest.mark.parametrize(("packing", "rounds"), [("rank_bsgs", 1), ("cheetah_two_round", 2)])
    def test_latency_is_paid_once_a_round_trip_and_run(
        self, make_profile: MakeProfile, packing: str, rounds: int
    ) -> None:
        plan = compile_plan(SHAPE, get_manager().load_packing(packing), sanitize_bits=40, private_weights=False)
        profile, tokens = make_profile(plan.params), 3 * plan.tokens_per_run
        near, far = (predict(plan, profile, tokens=tokens, rtt_ms=rtt_ms) for rtt_ms in (0, 20))
        assert near.round_trip_ms == 0
        assert far.round_trip_ms == 3 * rounds * 20
        assert far.total_ms - near.total_ms == pytest.approx(far.round_trip_ms)
        assert (far.encrypt_ms, far.compute_ms, far.decrypt_ms) == (near.encrypt_ms, near.compute_ms, near.decrypt_ms)


class TestMissing:
    @pytest.fixture
    def known(self) -> Plan:
        return compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), private_weights=False)

    def test_a_ring_that_was_not_calibrated_is_named_with_what_there_is(
        self, make_profile: MakeProfile, known: Plan
    ) -> None:
        other = CKKSParams(ring_degree=16384, data_bits=(60, 40), special_bits=(60,), scale_bits=40)
        with pytest.raises(ProfileMissing) as caught:
            predict(known, make_profile(other), tokens=1)
        assert "ring degree 8192 with 3 data and 1 special primes" in caught.value.message
        assert "ring degree 16384 with 2 data and 1 special primes" in caught.value.message
        assert "helora calibrate --backend synthetic --ring 8192" in caught.value.hint

    def test_an_operation_that_was_not_timed_is_named_with_its_level(
        self, make_profile: MakeProfile, known: Plan
    ) -> None:
        with pytest.raises(ProfileMissing, match="no time for rescale with 3 primes left"):
            predict(known, make_profile(known.params, without={("rescale", 2)}), tokens=1)

    def test_what_the_plan_does_not_do_may_be_missing(self, make_profile: MakeProfile, known: Plan) -> None:
        assert predict(known, make_profile(known.params, without={("sanitize", 2)}), tokens=1).total_ms > 0


class TestWholePrograms:
    """With times of operations within programs, every operation is still charged, by its part in the program."""

    PARTS = ("program_decompose", "program_rotate", "program_divide", "program_multiply", "program_multiply_rotated",
             "program_rescale", "program_multiply_number")  # fmt: skip

    @pytest.mark.parametrize("packing", ["rank_bsgs", "halevi_shoup_bsgs", "outer_product", "zero_moai", "cpmm"])
    def test_each_part_is_charged_for_once(self, packing: str) -> None:
        plan = compile_plan(ModuleShape.parse("64:48:8"), get_manager().load_packing(packing), private_weights=False)
        charged: Counter[str] = Counter()
        for _, (name, _, times) in whole_charges(plan):
            charged[name] += times
        assert charged["program_rotate"] == plan.counts.keyswitches
        assert charged["program_rescale"] == plan.counts.rescales
        assert sum(times for name, times in charged.items() if "_multiply" in name) == plan.counts.ct_pt
        assert charged["program_divide"] == len(least_divisions(plan.program).divided)
        assert charged["program_decompose"] == sum(1 for _ in plan.program.hoisted_groups())
        assert charged["program_run"] + charged["program_run_numbers"] == 1

    def test_they_take_the_place_of_single_operations(self, make_profile: MakeProfile) -> None:
        known = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), private_weights=False)
        profile = make_profile(known.params)
        (chain,) = profile.chains
        names = [(name, level) for name in (*self.PARTS, "program_run") for level in range(known.params.max_level + 1)]
        more = [Figure(operation=name, level=level, median_ns=1e6, minimum_ns=1e6, samples=1) for name, level in names]
        whole = replace(profile, chains=(replace(chain, figures=(*chain.figures, *more)),))
        shown = predict(known, whole, tokens=1).by_operation
        assert shown["run"] == pytest.approx(1)
        divided = len(least_divisions(known.program).divided)
        groups = sum(1 for _ in known.program.hoisted_groups())
        assert shown["rotate"] == pytest.approx(known.counts.keyswitches + divided + groups)
        costs = operation_costs(whole, known.params)
        assert (costs.decompose, costs.key_product, costs.divide, costs.add) == (1, 1, 1, 0)


class TestOperationCosts:
    PARAMS = CKKSParams(ring_degree=8192, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)

    def test_they_are_milliseconds_at_the_highest_level(self, make_profile: MakeProfile) -> None:
        times = {
            "rotate_first": 7,
            "rotate_further": 2,
            "dot_further": 3,
            "add": 1,
            "encrypt_slots": 2,
            "client_send": 4,
        }
        profile = make_profile(
            self.PARAMS,
            time=lambda operation, level, ring: ONE_MS * times.get(operation, 0) * (1 if level == 2 else 0.5),
        )
        costs = operation_costs(profile, self.PARAMS, rtt_ms=9)
        assert (costs.decompose, costs.key_product, costs.divide) == (5, 2, 0)
        assert (costs.multiply_plain, costs.add, costs.encrypt, costs.round_trip) == (2, 1, 6, 9)

    def test_none_is_negative(self, make_profile: MakeProfile) -> None:
        """Fitted times may come out below each other, and a chain too short for products has none."""
        profile = make_profile(self.PARAMS, time=lambda operation, level, ring: ONE_MS * (operation == "add"))
        costs = operation_costs(profile, self.PARAMS)
        assert costs.multiply_plain >= 0


def of(encrypt: float = 0, decrypt: float = 0, latency: float = 0, **by_operation: float) -> Prediction:
    return Prediction(
        tokens=1,
        runs=1,
        encrypt_ms=encrypt,
        compute_ms=sum(by_operation.values()),
        decrypt_ms=decrypt,
        round_trip_ms=latency,
        by_operation=by_operation,
    )


class TestBottleneck:
    @pytest.mark.parametrize(
        ("prediction", "label", "share"),
        [
            (of(1, 1, rotate=8, multiply_plain=2), "rotation-bound", 8 / 12),
            (of(5, 1, rotate=4), "encryption-bound", 5 / 10),
            (of(1, 6, rotate=1, send=1, receive=1), "decrypt/transfer-bound", 8 / 10),
            (of(1, 1, multiply_plain=3, add=1, rescale=1, rotate=3), "memory-bound", 5 / 10),
            (of(1, 1, latency=30, rotate=8), "latency-bound", 30 / 40),
            (of(1, 1, sanitize=6, rotate=2), "sanitise-bound", 6 / 10),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_the_label_is_what_most_time_goes_to(self, prediction: Prediction, label: str, share: float) -> None:
        found = bottleneck(prediction)
        assert found.label == label
        assert found.share == pytest.approx(share)
        assert found.advice

    def test_what_was_measured_beyond_the_prediction_is_overhead(self) -> None:
        prediction = of(1, 1, rotate=8)
        assert bottleneck(prediction, measured_ms=20).label == "overhead-bound"
        assert bottleneck(prediction, measured_ms=20).share == pytest.approx(0.5)
        assert bottleneck(prediction, measured_ms=11).label == "rotation-bound"

    def test_every_plan_has_a_label_and_a_share_of_the_whole(self, make_profile: MakeProfile, plan: Plan) -> None:
        found = bottleneck(predict(plan, make_profile(plan.params), tokens=2, rtt_ms=1))
        assert 0 < found.share <= 1
