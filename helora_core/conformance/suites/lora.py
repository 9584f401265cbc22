"""LoRA end to end: every registered packing that the backend can run gives the plaintext Δ."""

from __future__ import annotations

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import DEFAULT_PRECISION_BITS
from helora_core.compiler.requirements import require_capabilities
from helora_core.conformance.bench import Bench
from helora_core.conformance.requirements import slow
from helora_core.errors import CapabilityMissing, SlotOverflow
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse, Vector
from helora_core.params.presets import FAST
from helora_core.parties.adapter_run import ModuleJob, ModuleResult, run_adapter

SHAPES = ("576:192:8", "37:90:5", "1536:1536:16")
"""A rectangular module of a small model, one of odd sizes, and one of a 1.5-billion-parameter model."""

LARGE_SHAPES = ("4096:4096:16", "2048:2048:64")
"""A module of a 7-billion-parameter model, and one of high rank."""

QUICK_OPERATIONS = 1_000
"""Longer programs run only with ``--thorough``: the baseline packings take thousands of operations."""

MOST_OPERATIONS = 60_000
"""Longer programs are never run: they take minutes each and show nothing that a smaller module does not."""

_SMALL = "32:24:3"


def _plan(packing: str, shape: ModuleShape) -> Plan:
    """A plan with parameters that every library realises in the same way, so that its digest is the same on all.

    Masks need parameters of their own.
    """
    loaded = get_manager().load_packing(packing)
    params = None if loaded.modulus_use is ModulusUse.MASKED else FAST
    return compile_plan(shape, loaded, params=params, private_weights=False)


def _operations(plan: Plan) -> int:
    counts = plan.counts
    return counts.rotations + counts.ct_pt + counts.encrypts + counts.decrypts


def _outcome(
    bench: Bench, packing: str, shape: str, *, x: Vector, up: float = 1.0, most_operations: int = MOST_OPERATIONS
) -> ModuleResult:
    """Run a synthetic module of the shape on x; ``up`` scales its up matrix, and 0 means no weights."""
    parsed = ModuleShape.parse(shape)
    try:
        plan = _plan(packing, parsed)
        require_capabilities(bench.library, plan)
    except SlotOverflow as too_large:
        pytest.skip(too_large.message)
    except CapabilityMissing as missing:
        pytest.skip(f"not claimed: {missing.message}")
    if (operations := _operations(plan)) > most_operations:
        hint = ": runs with --thorough" if operations <= MOST_OPERATIONS else ""
        pytest.skip(f"slow, with {operations} operations{hint}")
    module = synthetic_module(parsed, seed=1)
    module = type(module)(module.name, module.down, module.up * up, module.scaling)
    (outcome,) = run_adapter(bench.library, [ModuleJob(module, x, plan)], private_weights=False)
    return outcome


def _bits(outcome: ModuleResult) -> float:
    module = outcome.job.module
    assert isinstance(module, LoRAModule)
    return precision_bits(outcome.delta, module.reference_delta(outcome.job.x))


def _usual(shape: str | ModuleShape, tokens: int) -> Vector:
    return synthetic_activations(ModuleShape.parse(str(shape)), tokens, seed=2)


def registered_packings() -> list[str]:
    """Names of all registered packings, including third parties'."""
    return list(get_manager().packings())


class LoRAEndToEnd:
    """Δ from the whole pipeline; the executor itself asserts executed == predicted."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("packing", registered_packings())
    def test_delta_equals_the_plaintext_reference(
        self, bench: Bench, packing: str, shape: str, pytestconfig: pytest.Config
    ) -> None:
        most = MOST_OPERATIONS if pytestconfig.getoption("--helora-thorough") else QUICK_OPERATIONS
        bits = _bits(_outcome(bench, packing, shape, x=_usual(shape, 3), most_operations=most))
        bench.achieved_bits.append(bits)
        assert bits >= DEFAULT_PRECISION_BITS, f"{bits:.1f} bits"

    @slow
    @pytest.mark.parametrize("shape", LARGE_SHAPES)
    @pytest.mark.parametrize("packing", registered_packings())
    def test_delta_of_a_large_module_equals_the_plaintext_reference(
        self, bench: Bench, packing: str, shape: str
    ) -> None:
        assert _bits(_outcome(bench, packing, shape, x=_usual(shape, 2))) >= DEFAULT_PRECISION_BITS

    @pytest.mark.parametrize("packing", registered_packings())
    def test_a_module_without_weights_gives_zero(self, bench: Bench, packing: str) -> None:
        """PEFT initialises up with zeros; libraries that refuse zero plaintexts must not make it fail."""
        outcome = _outcome(bench, packing, _SMALL, x=_usual(_SMALL, 1), up=0.0)
        assert np.max(np.abs(outcome.delta)) < 2.0**-DEFAULT_PRECISION_BITS

    @pytest.mark.parametrize("packing", registered_packings())
    def test_the_bound_holds_for_activations_of_any_size(self, bench: Bench, packing: str) -> None:
        """With massive channels, tiny tokens, or x along a row of ``down``, nothing wraps around, and no error exceeds
        its bound, which relative to ‖x‖ is no larger than for usual activations.
        """
        module = synthetic_module(ModuleShape.parse(_SMALL), seed=1)
        usual = _usual(_SMALL, 1)[0]
        massive = usual * np.where(np.arange(usual.size) == 7, 3000.0, 1.0)
        x = np.stack([usual, usual * 1e-6, massive, module.down[0] * 1e8, np.zeros_like(usual)])
        run = _outcome(bench, packing, _SMALL, x=x)
        errors = np.max(np.abs(run.delta - module.reference_delta(x)), axis=1)
        assert (errors <= run.error_bound).all(), f"{errors} exceed {run.error_bound}"
        beside = run.error_bound[:-1] / np.linalg.norm(x[:-1], axis=1)
        assert beside.max() <= 2.01 * beside.min()

    @pytest.mark.parametrize("packing", registered_packings())
    def test_more_tokens_than_a_run_holds_are_all_right(self, bench: Bench, packing: str) -> None:
        capacity = _plan(packing, ModuleShape.parse(_SMALL)).tokens_per_run
        outcome = _outcome(bench, packing, _SMALL, x=_usual(_SMALL, capacity + 1))
        assert _bits(outcome) >= DEFAULT_PRECISION_BITS
        assert outcome.report.executed == outcome.job.plan.counts.times(2)
