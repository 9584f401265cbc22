"""The bound on precision is below what is measured, and within six bits of it; it knows every source of error."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import open_sessions
from helora_core.compiler import precision
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.magnitudes import Magnitudes, largest_of, norm_below
from helora_core.compiler.plan import Plan
from helora_core.compiler.precision import PrecisionReport, analyse, check_precision
from helora_core.errors import PrecisionLost
from helora_core.manager import get_manager
from helora_core.packing.protocol import ScaleRole
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_core.runtime.constants import encode_constants
from helora_core.runtime.module_run import run_module
from helora_core.runtime.reference import precision_bits

MOST_SLACK_BITS = 6.0
TOKENS = 8
MIDDLE, SMALL, WIDE = "576:192:8", "37:90:5", "1536:1536:16"
CHAIN = CKKSParams(ring_degree=8192, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
SHORT = CKKSParams(ring_degree=8192, data_bits=(50, 30, 30), special_bits=(50,), scale_bits=30)
FRUGAL = CKKSParams(ring_degree=8192, data_bits=(60, 40, 40), special_bits=(40,), scale_bits=40)
"""A special prime so short that key switching drowns all else."""

CASES = [
    *((name, MIDDLE, {}) for name in sorted(get_manager().packings())),
    ("rank_bsgs", SMALL, {"params": CHAIN}),
    ("rank_bsgs", WIDE, {"params": SHORT}),
    ("outer_product", SMALL, {"params": FRUGAL}),
    ("zero_moai", WIDE, {"params": SHORT}),
    ("cheetah", WIDE, {"params": CHAIN}),
    ("rank_bsgs", MIDDLE, {"sanitize_bits": 40}),
    ("halevi_shoup_bsgs", SMALL, {"sanitize_bits": 20}),
    ("cheetah", MIDDLE, {"sanitize_bits": 20}),
    ("cheetah_two_round", MIDDLE, {"sanitize_bits": 20}),
]
SLOW = dict.fromkeys(("cpmm", "halevi_shoup", "halevi_shoup_bsgs"), SMALL)
"""Packings whose ciphertexts or plaintexts for wider shapes take seconds to make."""


def compiled(packing: str, shape: str, **options: Any) -> Plan:
    return compile_plan(
        ModuleShape.parse(SLOW.get(packing, shape)), get_manager().load_packing(packing), tokens=TOKENS, **options
    )


def measured(plan: Plan, backend: str, module: LoRAModule, seed: int) -> float:
    """Bits of max|Δ| that survive a run on real keys."""
    ledger = Ledger()
    client, server = open_sessions(
        get_manager().load_backend(backend),
        plan.params,
        plan.rotation_steps,
        ledger=ledger,
        public_key=plan.needs_public_key,
        seed=seed if backend == "numpy" else None,
    )
    x = synthetic_activations(plan.shape, TOKENS, seed=seed)
    constants = encode_constants(plan, module, server)
    owner = module if plan.packing.client_finishes else None
    delta = run_module(plan, constants, client, server, ledger, x, client_module=owner).delta
    return precision_bits(delta, module.reference_delta(x))


class TestMeasured:
    @pytest.mark.filterwarnings("ignore::helora_core.backend.session.InsecureParametersWarning")
    @pytest.mark.parametrize("backend", ["numpy", "tenseal"])
    @pytest.mark.parametrize(("packing", "shape", "options"), CASES)
    def test_the_bound_holds_and_is_close(self, packing: str, shape: str, options: Any, backend: str) -> None:
        plan = compiled(packing, shape, **options)
        bound = plan.precision(tokens=TOKENS).bits
        bits = measured(plan, backend, synthetic_module(plan.shape, seed=3), seed=3)
        assert bound <= bits <= bound + MOST_SLACK_BITS

    @pytest.mark.parametrize("backend", ["numpy", "tenseal"])
    def test_a_module_of_zeros_has_an_absolute_bound(self, backend: str) -> None:
        plan = compiled("rank_bsgs", MIDDLE, params=CHAIN)
        module = LoRAModule("zeros", np.zeros((8, 576)), np.zeros((192, 8)), 1.0)
        report = plan.precision(Magnitudes.of(module), tokens=TOKENS)
        assert report.bits <= measured(plan, backend, module, seed=0)
        assert math.isfinite(report.bits)

    def test_the_report_of_no_results_is_that_of_no_error(self) -> None:
        program = Program(slots=4096, ops=(Op(kind=OpKind.INPUT, positions=(0,)),), outputs=(None,))
        report = _report(program)
        assert (report.bits, report.error_max, report.terms) == (53.0, 0.0, {})


class TestWrongModels:
    """What the test against measurements is worth: a model without a term promises what does not hold."""

    @pytest.mark.parametrize(
        ("packing", "options", "term", "names"),
        [
            ("outer_product", {"params": FRUGAL}, "key switching", ["keyswitch_std", "keyswitch_worst_std"]),
            ("cpmm", {"params": CHAIN}, "rescaling", ["rescale_std"]),
            ("rank_bsgs", {"sanitize_bits": 20}, "weight rounding", ["encoding_std"]),
        ],
    )
    def test_a_forgotten_term_is_noticed(
        self, packing: str, options: Any, term: str, names: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = compiled(packing, MIDDLE, **options)
        assert max(plan.precision().terms, key=plan.precision().terms.__getitem__) == term
        bits = measured(plan, "numpy", synthetic_module(plan.shape, seed=3), seed=3)
        for name in names:
            monkeypatch.setattr(noise, name, lambda *args: 1e-6)
        assert plan.precision(tokens=TOKENS).bits > bits

    def test_spikes_are_not_even_noise(self) -> None:
        """The worst slot's noise, taken for that of every slot, would be out of the six bits."""
        plan = compiled("outer_product", MIDDLE, params=CHAIN)
        report = plan.precision(tokens=TOKENS)
        n, bits = CHAIN.ring_degree, CHAIN.data_bits[:2]
        ratio = noise.keyswitch_worst_std(n, bits, 60) / noise.keyswitch_std(n, bits, 60)
        bound_of_worst = -math.log2(report.error_rms * ratio * largest_of(192 * TOKENS, 0.5))
        assert bound_of_worst < -math.log2(report.error_max) - 1


class TestLaws:
    @given(less=st.integers(1, 15), bits=st.integers(25, 40))
    def test_a_smaller_scale_is_never_more_precise(self, less: int, bits: int) -> None:
        assert _report(PRODUCT, input_bits=bits - less).bits <= _report(PRODUCT, input_bits=bits).bits
        assert _report(PRODUCT, down_bits=bits - less).bits <= _report(PRODUCT, down_bits=bits).bits

    @given(rotations=st.integers(0, 30))
    def test_another_rotation_is_never_more_precise(self, rotations: int) -> None:
        assert _report(_rotated(rotations + 1)).bits < _report(_rotated(rotations)).bits

    @given(level=st.integers(0, 1))
    def test_noise_of_any_kind_takes_bits_away(self, level: int) -> None:
        plan = compiled("rank_bsgs", SMALL, params=CHAIN)
        usual = plan.precision().bits
        assert plan.precision(public_encryption=True).bits < usual
        nominal = analyse(plan.program, plan.values, plan.params, plan.scales, shape=plan.shape, nominal_scales=True)
        assert nominal.bits < usual
        assert nominal.terms["scale drift"] > 0

    def test_each_further_bit_of_flooding_is_one_in_the_flood(self) -> None:
        floods = {}
        for bits in (20, 40):
            (floods[bits],) = set(_report(_sanitized(bits)).flood_bits.values())
        assert 20 <= floods[40] - floods[20] <= 21

    def test_a_flood_is_as_much_larger_than_the_noise(self) -> None:
        """On a fresh ciphertext, whose noise has a known norm: Pinsker's inequality, with twice that norm."""
        (flood,) = _report(_sanitized(40)).flood_bits.values()
        assert flood == math.ceil(40 + math.log2(math.sqrt(CHAIN.ring_degree) * noise.ERROR_STD))

    def test_terms_are_shares(self) -> None:
        terms = compiled("rank_bsgs", MIDDLE, sanitize_bits=20).precision().terms
        assert sum(terms.values()) == pytest.approx(1.0)
        assert "flooding" in terms


class TestMagnitudes:
    def test_the_defaults_are_those_of_synthetic_data(self) -> None:
        shape = ModuleShape.parse(WIDE)
        x = synthetic_activations(shape, 64, seed=1)
        real = Magnitudes.of(synthetic_module(shape, seed=1), float(np.sqrt(np.mean(x**2))))
        for name, value in msgspec.structs.asdict(Magnitudes.of_shape(shape)).items():
            assert getattr(real, name) == pytest.approx(value, rel=0.1)

    def test_delta_is_as_large_as_they_say(self) -> None:
        shape = ModuleShape.parse(WIDE)
        x = synthetic_activations(shape, 64, seed=2)
        delta = synthetic_module(shape, seed=2).reference_delta(x)
        assert np.sqrt(np.mean(delta**2)) == pytest.approx(Magnitudes.of_shape(shape).delta_rms(shape), rel=0.3)

    @pytest.mark.parametrize("count", [4, 8, 200])
    def test_extremes_are_those_of_normal_values(self, count: int) -> None:
        draws = np.random.default_rng(5).normal(size=(4000, count))
        largest, norms = np.abs(draws).max(axis=1), np.sqrt(np.mean(draws**2, axis=1))
        for probability in (0.01, 0.5, 0.99):
            assert largest_of(count, probability) == pytest.approx(np.quantile(largest, probability), rel=0.15)
            assert norm_below(count, probability) == pytest.approx(np.quantile(norms, probability), rel=0.15)


class TestCheck:
    def test_it_names_what_dominates_and_what_to_do(self) -> None:
        report = _report(PRODUCT, down_bits=12)
        with pytest.raises(PrecisionLost, match="weight rounding") as refusal:
            check_precision(report, 12)
        assert "scales of the plaintexts" in str(refusal.value.hint)

    def test_enough_is_enough(self) -> None:
        report = _report(PRODUCT)
        check_precision(report, report.bits)


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


class TestRuns:
    """Tokens that share a run share its spikes, of which none may be forgotten and none be counted for each token."""

    @pytest.mark.parametrize("packing", ["rank_bsgs", "halevi_shoup", "outer_product"])
    @pytest.mark.parametrize("shape", ["512:512:8", "4096:100:8", "100:1500:8"])
    def test_all_spikes_of_shared_runs_count_once(
        self, packing: str, shape: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = compile_plan(ModuleShape.parse(shape), get_manager().load_packing(packing), tokens=64)
        drawn: list[tuple[int, float]] = []
        largest = precision.largest_spike

        def noted(variances: Any, times: float, probability: float) -> float:
            drawn.append((len(variances), times))
            return largest(variances, times, probability)

        def bits(runs: int) -> float:
            kept = {"shape": plan.shape, "tokens": 64, "runs": runs}
            return analyse(plan.program, plan.values, plan.params, plan.scales, **kept).bits  # type: ignore[arg-type]

        monkeypatch.setattr(precision, "largest_spike", noted)
        runs = plan.runs(64)
        shared = bits(runs)
        sent, slots_of_delta = runs * len(plan.program.results), 64 * plan.shape.d_out
        assert drawn
        for spikes, times in drawn:
            assert spikes * times == pytest.approx(min(spikes * sent, slots_of_delta))
        assert plan.precision(tokens=64).bits == bits(64) <= shared
