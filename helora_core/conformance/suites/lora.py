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
from helora_core.errors import CapabilityMissing, HeloraError, SlotOverflow
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse, Vector
from helora_core.params.presets import FAST
from helora_core.parties.adapter_run import ModuleJob, run_adapter
from helora_core.parties.module_run import ModuleRun, run_module

SHAPES = ("576:192:8", "37:90:5", "1536:1536:16")
"""A rectangular module of a small model, one of odd sizes, and one of a 1.5-billion-parameter model."""

LARGE_SHAPES = ("4096:4096:16", "2048:2048:64")
"""A module of a 7-billion-parameter model, and one of high rank."""

QUICK_OPERATIONS = 1_000
"""Longer programs run only with ``--thorough``: the baseline packings take thousands of operations."""

MOST_OPERATIONS = 60_000
"""Longer programs are never run: they take minutes each and show nothing that a smaller module does not."""

_SMALL = "32:24:3"
_MODULE = synthetic_module(ModuleShape.parse(_SMALL), seed=1)


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


def _runnable(bench: Bench, packing: str, shape: str, most_operations: int = MOST_OPERATIONS) -> Plan:
    """The plan, unless the backend cannot run it or it is too long."""
    try:
        plan = _plan(packing, ModuleShape.parse(shape))
        require_capabilities(bench.library, plan)
    except SlotOverflow as too_large:
        pytest.skip(too_large.message)
    except CapabilityMissing as missing:
        pytest.skip(f"not claimed: {missing.message}")
    if (operations := _operations(plan)) > most_operations:
        hint = ": runs with --thorough" if operations <= MOST_OPERATIONS else ""
        pytest.skip(f"slow, with {operations} operations{hint}")
    return plan


def _delta_bits(
    bench: Bench, packing: str, shape: str, *, tokens: int, most_operations: int = MOST_OPERATIONS
) -> float:
    """Bits of Δ that a synthetic module of the shape keeps, through a client and a server."""
    plan = _runnable(bench, packing, shape, most_operations)
    module = synthetic_module(plan.shape, seed=1)
    x = _usual(shape, tokens)
    (outcome,) = run_adapter(bench.library, [ModuleJob(module, x, plan)], private_weights=False)
    return precision_bits(outcome.delta, module.reference_delta(x))


def _small_run(bench: Bench, packing: str, module: LoRAModule, x: Vector) -> ModuleRun:
    """Run a small module on sessions that are kept for all such runs: keys take longer than these do."""
    plan = _runnable(bench, packing, _SMALL)
    key = _small_run, packing
    if key not in bench.kept:
        bench.kept[key] = bench.open(plan.params, plan.rotation_steps)
    client, server = bench.kept[key]
    plan = plan.for_module(module)
    constants = encode_constants(plan, module, server.encoder)
    return run_module(plan, constants, client, server, x, client_module=module)


def _usual(shape: str | ModuleShape, tokens: int) -> Vector:
    return synthetic_activations(ModuleShape.parse(str(shape)), tokens, seed=2)


def registered_packings() -> list[str]:
    """Names of all registered packings, including third parties', whose plans run once activations are there."""
    return [name for name in get_manager().packings() if not _runs_ahead(name)]


def _runs_ahead(name: str) -> bool:
    try:
        return get_manager().load_packing(name).modulus_use is ModulusUse.CORRELATED
    except HeloraError:  # a broken packing fails its tests, not their collection
        return False


class LoRAEndToEnd:
    """Δ from the whole pipeline; the executor itself asserts executed == predicted."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("packing", registered_packings())
    def test_delta_equals_the_plaintext_reference(
        self, bench: Bench, packing: str, shape: str, pytestconfig: pytest.Config
    ) -> None:
        most = MOST_OPERATIONS if pytestconfig.getoption("--helora-thorough") else QUICK_OPERATIONS
        bits = _delta_bits(bench, packing, shape, tokens=3, most_operations=most)
        bench.achieved_bits.append(bits)
        assert bits >= DEFAULT_PRECISION_BITS, f"{bits:.1f} bits"

    @slow
    @pytest.mark.parametrize("shape", LARGE_SHAPES)
    @pytest.mark.parametrize("packing", registered_packings())
    def test_delta_of_a_large_module_equals_the_plaintext_reference(
        self, bench: Bench, packing: str, shape: str
    ) -> None:
        assert _delta_bits(bench, packing, shape, tokens=2) >= DEFAULT_PRECISION_BITS

    @pytest.mark.parametrize("packing", registered_packings())
    def test_a_module_without_weights_gives_zero(self, bench: Bench, packing: str) -> None:
        """PEFT initialises up with zeros; libraries that refuse zero plaintexts must not make it fail."""
        empty = LoRAModule(_MODULE.name, _MODULE.down, _MODULE.up * 0.0, _MODULE.scaling)
        run = _small_run(bench, packing, empty, _usual(_SMALL, 1))
        assert np.max(np.abs(run.delta)) < 2.0**-DEFAULT_PRECISION_BITS

    @pytest.mark.parametrize("packing", registered_packings())
    def test_the_bound_holds_for_activations_of_any_size(self, bench: Bench, packing: str) -> None:
        """With massive channels, tiny tokens, or x along a row of ``down``, nothing wraps around, and no error exceeds
        its bound, which relative to ‖x‖ is no larger than for usual activations.
        """
        usual = _usual(_SMALL, 1)[0]
        massive = usual * np.where(np.arange(usual.size) == 7, 3000.0, 1.0)
        x = np.stack([usual, usual * 1e-6, massive, _MODULE.down[0] * 1e8, np.zeros_like(usual)])
        run = _small_run(bench, packing, _MODULE, x)
        errors = np.max(np.abs(run.delta - _MODULE.reference_delta(x)), axis=1)
        assert (errors <= run.error_bound).all(), f"{errors} exceed {run.error_bound}"
        beside = run.error_bound[:-1] / np.linalg.norm(x[:-1], axis=1)
        assert beside.max() <= 2.01 * beside.min()

    @pytest.mark.parametrize("packing", registered_packings())
    def test_more_tokens_than_a_run_holds_are_all_right(self, bench: Bench, packing: str) -> None:
        plan = _runnable(bench, packing, _SMALL)
        x = _usual(_SMALL, plan.tokens_per_run + 1)
        run = _small_run(bench, packing, _MODULE, x)
        assert precision_bits(run.delta, _MODULE.reference_delta(x)) >= DEFAULT_PRECISION_BITS
        assert run.executed == plan.counts.times(2)
