"""The bound on errors holds for all weights and activations, and is not far above what is measured."""

from __future__ import annotations

import math
import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.error_flow import FLOAT64_ERROR
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.compiler.precision import PrecisionReport, analyse, check_precision
from helora_core.compiler.signal import expected_delta
from helora_core.errors import HeloraError, PrecisionLost
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ScaleRole
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import NoiseModel
from helora_core.parties.adapter_run import ModuleJob, ModuleResult, run_adapter
from tests.compiler import drawn
from tests.registered import online_packings

DRAWN_CASES = int(os.environ.get("HELORA_BOUND_CASES", "80"))
BACKENDS = os.environ.get("HELORA_BOUND_BACKENDS", "numpy").split(",")
"""``nox -s bounds`` draws thousands, on a real library too."""

MIDDLE, SMALL = "576:192:8", "37:90:5"
CHAIN = CKKSParams(ring_degree=8192, data_bits=(50, 40, 40), special_bits=(60,), scale_bits=40)
FRUGAL = CKKSParams(ring_degree=8192, data_bits=(50, 40, 40), special_bits=(40,), scale_bits=40)
"""A special prime so short that key switching drowns all else."""

PACKINGS = sorted(online_packings())
SLOW = ("halevi_shoup", "halevi_shoup_bsgs", "cpmm")
"""Packings whose plaintexts or ciphertexts for wide modules take seconds to make."""


def run(backend: str, plan: Plan, module: LoRAModule, x: Any) -> ModuleResult:
    (outcome,) = run_adapter(get_manager().load_backend(backend), [ModuleJob(module, x, plan)], private_weights=False)
    return outcome


def compiled(packing: str, shape: str, **options: Any) -> Plan:
    return compile_plan(ModuleShape.parse(shape), get_manager().load_packing(packing), private_weights=False, **options)


def allowed(result: ModuleResult, reference: Any) -> Any:
    """The bound, and what float64 leaves of numbers of this size."""
    return result.error_bound[:, np.newaxis] + 2.0**-50 * np.max(np.abs(reference), axis=1, keepdims=True)


class TestBound:
    @settings(
        max_examples=DRAWN_CASES, deadline=None, derandomize="HELORA_BOUND_CASES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def test_no_error_exceeds_it(self, data: st.DataObject) -> None:
        packing = data.draw(st.sampled_from(PACKINGS))
        module = data.draw(drawn.modules(widest=24 if packing in SLOW else 96))
        kind, size = data.draw(st.sampled_from(drawn.ACTIVATIONS)), 10.0 ** data.draw(st.integers(-8, 8))
        tokens, seed = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2**32))
        x = drawn.activations(kind, tokens, module.down, np.random.default_rng(seed)) * size
        plan = compile_plan(
            module.shape,
            get_manager().load_packing(packing),
            tokens=tokens,
            module=module,
            private_weights=False,
            sanitize_bits=data.draw(st.sampled_from([0, 40])),
        )
        result = run(data.draw(st.sampled_from(BACKENDS)), plan, module, x)
        event(packing)
        reference = module.reference_delta(x)
        assert (np.abs(result.delta - reference) <= allowed(result, reference)).all()

    @pytest.mark.parametrize(("backend", "sanitize_bits"), [("numpy", 40), ("tenseal", 0)])
    @pytest.mark.parametrize("packing", PACKINGS)
    def test_it_is_within_a_few_bits_of_usual_errors(self, packing: str, sanitize_bits: int, backend: str) -> None:
        module = synthetic_module(ModuleShape.parse(SMALL if packing in SLOW else MIDDLE), seed=3)
        x = synthetic_activations(module.shape, 2, seed=3)
        plan = compiled(packing, str(module.shape), tokens=2, module=module, sanitize_bits=sanitize_bits)
        result = run(backend, plan, module, x)
        errors = np.max(np.abs(result.delta - module.reference_delta(x)), axis=1)
        assert (errors <= result.error_bound).all()
        assert (result.error_bound <= errors * 2**8).all()

    @pytest.mark.parametrize("factor", [1e-6, 1.0, 3e3])
    def test_it_is_relative_to_the_size_of_x_and_weights(self, factor: float) -> None:
        module = synthetic_module(ModuleShape.parse(MIDDLE), seed=1)
        larger = LoRAModule("larger", module.down * 64, module.up * 2.0**-30, module.scaling)
        x = synthetic_activations(module.shape, 2, seed=1)
        plan = compiled("rank_bsgs", MIDDLE, tokens=2)
        usual = run("numpy", plan, module, x).error_bound
        scaled = run("numpy", plan, larger, x * factor).error_bound
        ratio = scaled / (usual * factor * 2.0**-24)
        assert ((ratio >= 0.5) & (ratio <= 2)).all()

    def test_x_of_zeros_gives_zero_and_a_dead_module_too(self) -> None:
        module = synthetic_module(ModuleShape.parse(SMALL), seed=1)
        x = synthetic_activations(module.shape, 3, seed=1)
        x[1] = 0
        plan = compiled("rank_bsgs", SMALL, tokens=3, sanitize_bits=40)
        result = run("numpy", plan, module, x)
        assert not result.delta[1].any()
        assert result.error_bound[1] == 0
        for packing in PACKINGS:
            for dead in (
                LoRAModule("dead", module.down, np.zeros_like(module.up), 2.0),
                LoRAModule("dead", np.zeros_like(module.down), module.up, 2.0),
                LoRAModule("dead", module.down, module.up, 0.0),
            ):
                plan = compiled(packing, SMALL, tokens=3, module=dead)
                assert plan.is_zero
                assert np.max(np.abs(run("numpy", plan, dead, x).delta)) == 0, packing


class TestWrongModels:
    """What the test against measurements is worth: a model without a term promises what does not hold."""

    @pytest.mark.parametrize(
        ("packing", "options", "names"),
        [
            ("outer_product", {"params": FRUGAL}, ["keyswitch_std", "keyswitch_worst_std"]),
            ("cpmm", {"params": CHAIN}, ["rescale_std", "encryption_std"]),
            ("zero_moai", {"params": CHAIN}, ["rescale_std", "encryption_std"]),
        ],
    )
    def test_a_forgotten_term_is_noticed(
        self, packing: str, options: Any, names: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = synthetic_module(ModuleShape.parse(SMALL), seed=3)
        x = synthetic_activations(module.shape, 2, seed=3)
        plan = compiled(packing, SMALL, tokens=2, **options)
        usual = plan.precision().error_bound
        result = run("numpy", plan, module, x)
        errors = np.abs(result.delta - module.reference_delta(x)).max(axis=1)
        assert (errors <= result.error_bound).all()
        for name in names:
            monkeypatch.setattr(noise, name, lambda *args, **options: 1e-6)
        forgetful = analyse(
            plan.program, plan.values, plan.params, plan.scales, shape=plan.shape,
            client_finishes=plan.packing.client_finishes,
        )  # fmt: skip
        assert (errors > result.error_bound * forgetful.error_bound / usual).any()


class TestLaws:
    @given(less=st.integers(1, 15), bits=st.integers(25, 40))
    def test_a_smaller_scale_is_never_more_precise(self, less: int, bits: int) -> None:
        assert _report(PRODUCT, input_bits=bits - less).bits <= _report(PRODUCT, input_bits=bits).bits
        assert _report(PRODUCT, down_bits=bits - less).bits <= _report(PRODUCT, down_bits=bits).bits

    @given(rotations=st.integers(0, 30))
    def test_another_rotation_is_never_more_precise(self, rotations: int) -> None:
        assert _report(_rotated(rotations + 1)).bits < _report(_rotated(rotations)).bits

    def test_noise_of_any_kind_takes_bits_away(self) -> None:
        plan = compiled("rank_bsgs", SMALL, params=CHAIN)
        usual = plan.precision().bits
        assert plan.precision(noise_model=NoiseModel(public_encryption=True)).bits < usual
        nominal = analyse(plan.program, plan.values, plan.params, plan.scales, shape=plan.shape, nominal_scales=True)
        assert nominal.bits < usual
        assert nominal.terms["scale drift"] > 0

    def test_each_further_bit_of_flooding_is_one_in_the_flood(self) -> None:
        floods = {}
        for bits in (20, 40):
            (floods[bits],) = set(_report(_sanitized(bits)).flood_bits.values())
        assert floods[40] - floods[20] == 20

    def test_a_flood_is_as_much_larger_than_the_noise(self) -> None:
        """On a fresh ciphertext, whose noise has a known norm: Pinsker's inequality."""
        (flood,) = _report(_sanitized(40)).flood_bits.values()
        norm = math.sqrt(CHAIN.ring_degree) * noise.ERROR_STD
        assert 2.0**40 * norm / 2 <= 2.0**flood <= 2.0**40 * norm * 1.25

    @pytest.mark.parametrize("packing", PACKINGS)
    def test_terms_are_shares_and_the_bound_knows_float64(self, packing: str) -> None:
        report = compiled(packing, SMALL, sanitize_bits=20).precision()
        assert sum(report.terms.values()) == pytest.approx(1.0)
        assert report.error_bound > FLOAT64_ERROR

    def test_the_report_of_no_results_is_that_of_no_error(self) -> None:
        program = Program(slots=4096, ops=(Op(kind=OpKind.INPUT, positions=(0,)),), outputs=(None,))
        report = _report(program)
        assert (report.bits, report.error_bound, report.terms) == (53.0, 0.0, {})


class TestExpectedDelta:
    @pytest.mark.parametrize("shape", ["576:576:8", "1024:256:16", "100:2000:4"])
    def test_half_of_random_tokens_have_more(self, shape: str) -> None:
        """In normalised units; the exponents that are whole make it vary by a factor of up to four either way."""
        parsed = ModuleShape.parse(shape)
        rng, ratios = np.random.default_rng(0), []
        plan = compiled("cheetah_two_round", shape)
        for _ in range(20):
            module = LoRAModule(
                "m", rng.normal(size=(parsed.rank, parsed.d_in)), rng.normal(size=(parsed.d_out, parsed.rank)), 1.0
            )
            x = rng.normal(size=(1, parsed.d_in))
            delta = plan.normalized(module).reference_delta(x / np.linalg.norm(x))
            ratios.append(np.max(np.abs(delta)) / expected_delta(parsed))
        assert 1 / 3 < np.median(ratios) < 3


class TestCheck:
    def test_it_names_what_dominates_and_what_to_do(self) -> None:
        report = _report(PRODUCT, down_bits=12)
        with pytest.raises(PrecisionLost, match="weight rounding") as refusal:
            check_precision(report, 12)
        assert "scales of the plaintexts" in str(refusal.value.hint)

    def test_enough_is_enough(self) -> None:
        report = _report(PRODUCT)
        check_precision(report, report.bits)


class TestTargets:
    @pytest.mark.parametrize("packing", PACKINGS)
    def test_a_plan_keeps_what_was_asked_for(self, packing: str) -> None:
        bits = Counter(
            {asked: compiled(packing, SMALL, precision_bits=asked).precision().bits for asked in (8, 12, 15)}
        )
        for asked, kept in bits.items():
            assert kept >= asked

    def test_what_cannot_be_kept_is_refused(self) -> None:
        with pytest.raises(HeloraError):
            compiled("rank_bsgs", MIDDLE, precision_bits=60, sanitize_bits=40)


PRODUCT = Program(
    slots=4096,
    ops=(
        Op(kind=OpKind.INPUT, positions=(0,)),
        Op(kind=OpKind.MULTIPLY_PLAIN, args=(0,), constant="down", role=ScaleRole.DOWN),
    ),
    outputs=(1,),
)


def _rotated(times: int) -> Program:
    turns = (Op(kind=OpKind.ROTATE, args=(i,), steps=1) for i in range(times))
    return Program(slots=4096, ops=(Op(kind=OpKind.INPUT, positions=(0,)), *turns), outputs=(times,))


def _sanitized(bits: int) -> Program:
    ops = (Op(kind=OpKind.INPUT, positions=(0,)), Op(kind=OpKind.SANITIZE, args=(0,), bits=bits))
    return Program(slots=4096, ops=ops, outputs=(1,))


def _report(program: Program, *, input_bits: int = 40, down_bits: int = 40) -> PrecisionReport:
    scales = Scales(input_bits=input_bits, down_bits=down_bits, up_bits=40)
    values = annotate(program, CHAIN, scales)
    return analyse(program, values, CHAIN, scales, shape=ModuleShape.parse(MIDDLE))
