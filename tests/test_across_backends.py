"""One plan on every backend that can be used here: the same digest, the same ledger, and the same Δ.

All libraries have a build for Python 3.10 only: ``nox -s conformance`` runs this there with every one of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import DEFAULT_PRECISION_BITS, compile_plan
from helora_core.manager import get_manager
from helora_core.params.presets import FAST
from helora_core.runtime.adapter_run import Outcome, Work, run_adapter

SHAPE = ModuleShape.parse("576:192:8")
MODULE = synthetic_module(SHAPE, seed=3)
X = synthetic_activations(SHAPE, 5, seed=4)
REFERENCE = MODULE.reference_delta(X)
TOLERANCE = 2.0**-DEFAULT_PRECISION_BITS * float(np.max(np.abs(REFERENCE)))


def _usable() -> list[str]:
    return [name for name, registered in get_manager().backends().items() if registered.availability is None]


@cache
def _outcome(backend: str, packing: str) -> Outcome:
    manager = get_manager()
    # Each backend compiles for itself: that the plans are equal is what is tested.
    plan = compile_plan(SHAPE, manager.load_packing(packing), params=FAST)
    (outcome,) = run_adapter(manager.load_backend(backend), {SHAPE: plan}, [Work(MODULE, X)])
    return outcome


@pytest.mark.parametrize("packing", get_manager().packings())
@pytest.mark.parametrize("backend", _usable())
def test_every_backend_runs_the_same_plan_with_the_same_ledger(backend: str, packing: str) -> None:
    outcome, other = _outcome(backend, packing), _outcome("numpy", packing)
    assert outcome.plan.digest == other.plan.digest
    assert outcome.run.executed == other.run.executed == outcome.plan.counts.times(outcome.plan.runs(len(X)))


@pytest.mark.parametrize("packing", get_manager().packings())
@pytest.mark.parametrize("backend", _usable())
def test_backends_agree_within_the_sum_of_their_tolerances(backend: str, packing: str) -> None:
    delta = _outcome(backend, packing).run.delta
    assert np.max(np.abs(delta - REFERENCE)) <= TOLERANCE
    for other in _usable():
        assert np.max(np.abs(delta - _outcome(other, packing).run.delta)) <= 2 * TOLERANCE
