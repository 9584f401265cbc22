"""Adapters with zeros, end to end: what does nothing costs nothing, and changes nothing elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from helora_core.adapter.combine import compact
from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.compile import compile_plan
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob, ModuleResult, run_adapter

SHAPE = ModuleShape.parse("96:64:8")
PACKINGS = (
    "rank_bsgs", "zero_moai", "cheetah", "cheetah_two_round", "outer_product", "halevi_shoup", "halevi_shoup_bsgs",
)  # fmt: skip

TOKENS = 3


def dense(name: str = "dense") -> LoRAModule:
    return synthetic_module(SHAPE, seed=4, name=name)


def pruned(kept: int) -> LoRAModule:
    """Ranks from ``kept`` on have rows of zeros in ``down``, the last of them columns of zeros in ``up`` as well."""
    sound = dense("pruned")
    down, up = sound.down.copy(), sound.up.copy()
    down[kept:] = 0.0
    up[:, -1] = 0.0
    return LoRAModule("pruned", down, up, sound.scaling)


def gated() -> LoRAModule:
    """As a gate that training closed: the matrices are there, and their product counts for nothing."""
    sound = dense("gated")
    return LoRAModule("gated", sound.down, sound.up, 0.0)


def run(backend: Any, packing: str, *modules: LoRAModule, sanitize_bits: int | None = None) -> list[ModuleResult]:
    strategy = get_manager().load_packing(packing)
    x = synthetic_activations(SHAPE, TOKENS, seed=6)
    work = [
        ModuleJob(
            module,
            x,
            compile_plan(
                module.shape, strategy, tokens=TOKENS, module=module, sanitize_bits=sanitize_bits, private_weights=False
            ),
        )
        for module in modules
    ]
    return list(run_adapter(backend, work, private_weights=False))


@pytest.mark.parametrize("sanitize_bits", [None, 40])
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_closed_gate_executes_nothing_and_adds_exactly_zero(
    numpy_backend: Any, packing: str, sanitize_bits: int | None
) -> None:
    (outcome,) = run(numpy_backend, packing, compact(gated()), sanitize_bits=sanitize_bits)
    assert outcome.report.executed == OperationCounts()
    assert outcome.delta.shape == (TOKENS, SHAPE.d_out)
    assert not outcome.delta.any()
    assert (outcome.report.bytes_up, outcome.report.bytes_down) == (0, 0)
    assert outcome.job.plan.rotation_steps == ()


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_module_of_zero_rows_alone_is_a_closed_gate_too(numpy_backend: Any, packing: str) -> None:
    (outcome,) = run(numpy_backend, packing, compact(pruned(kept=0)))
    assert outcome.report.executed == OperationCounts()
    assert not outcome.delta.any()


@pytest.mark.parametrize("packing", PACKINGS)
def test_pruned_ranks_cost_nothing_and_the_others_are_right(numpy_backend: Any, packing: str) -> None:
    module = pruned(kept=2)
    small, sparse, full = run(numpy_backend, packing, compact(module), module, dense())
    reference = module.reference_delta(small.job.x)
    assert small.job.plan.shape.rank == 2
    for outcome in (small, sparse):
        assert precision_bits(outcome.delta, reference) > 11
    if packing.startswith("halevi_shoup"):  # it merges both factors, whose product has no zeros
        assert small.report.executed == full.report.executed
    elif packing == "cheetah_two_round":  # masks are for zeros too
        assert sparse.report.executed == full.report.executed
    else:
        assert small.report.executed.ct_pt < full.report.executed.ct_pt


@pytest.mark.parametrize("packing", PACKINGS)
def test_other_modules_are_not_affected(numpy_backend: Any, packing: str) -> None:
    alone = run(numpy_backend, packing, dense())[0]
    _, among, _ = run(numpy_backend, packing, compact(gated()), dense(), compact(pruned(kept=2)))
    assert among.report.executed == alone.report.executed
    assert among.job.plan.digest == alone.job.plan.digest
    assert precision_bits(among.delta, among.job.module.reference_delta(among.job.x)) > 11  # type: ignore[union-attr]


def test_features_that_no_weight_reads_are_not_sent(numpy_backend: Any) -> None:
    """A block of features whose columns of ``down`` are all zero has no product, and stays with the client."""
    shape = ModuleShape.parse("10000:16:2")
    sound = synthetic_module(shape, seed=1)
    down = sound.down.copy()
    down[:, 5000:] = 0.0
    module = LoRAModule("half", down, sound.up, sound.scaling)
    strategy = get_manager().load_packing("rank_bsgs")
    x = synthetic_activations(shape, 1, seed=1)
    plans = [
        compile_plan(shape, strategy, ring_degree=8192, module=each, private_weights=False) for each in (sound, module)
    ]
    (outcome,) = run_adapter(numpy_backend, [ModuleJob(module, x, plans[1])], private_weights=False)
    assert outcome.report.executed.encrypts < plans[0].counts.encrypts
    assert precision_bits(outcome.delta, module.reference_delta(x)) > 11


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_plan_of_a_closed_gate_is_another_than_that_of_an_open_one(packing: str) -> None:
    """By the one, the other would come out as zero."""
    strategy = get_manager().load_packing(packing)
    shut = compact(gated())
    closed, opened = (
        compile_plan(shut.shape, strategy, precision_bits=9, module=each, private_weights=False)
        for each in (shut, None)
    )
    assert closed.digest != opened.digest
