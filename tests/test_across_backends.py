"""One plan on every backend that can be used here: the same digest, the same ledger, and the same Δ.

All libraries have a build for Python 3.10 only: ``nox -s conformance`` runs this there with every one of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import DEFAULT_PRECISION_BITS
from helora_core.errors import CapabilityMissing
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse
from helora_core.params.presets import FAST
from helora_core.parties.adapter_run import ModuleJob, ModuleResult, run_adapter
from tests.registered import online_packings

pytestmark = pytest.mark.thorough  # and in the session ``conformance``

SHAPE = ModuleShape.parse("80:24:2")
MODULE = synthetic_module(SHAPE, seed=3)
X = synthetic_activations(SHAPE, 34, seed=4)  # more than a run of slots holds
REFERENCE = MODULE.reference_delta(X)
TOLERANCE = 2.0**-DEFAULT_PRECISION_BITS * float(np.max(np.abs(REFERENCE)))


def _usable() -> list[str]:
    return [name for name, registered in get_manager().backends().items() if registered.availability is None]


def _plan(packing: str) -> Plan:
    """Each backend compiles for itself: that the plans are equal is what is tested. Masks want their own parameters."""
    loaded = get_manager().load_packing(packing)
    return compile_plan(
        SHAPE,
        loaded,
        params=None if loaded.modulus_use is ModulusUse.MASKED else FAST,
        tokens=len(X),
        private_weights=False,
    )


@cache
def _outcome(backend: str, packing: str) -> ModuleResult | CapabilityMissing:
    try:
        (outcome,) = run_adapter(
            get_manager().load_backend(backend), [ModuleJob(MODULE, X, _plan(packing))], private_weights=False
        )
    except CapabilityMissing as refusal:
        return refusal
    return outcome


def _run(backend: str, packing: str) -> ModuleResult:
    outcome = _outcome(backend, packing)
    if isinstance(outcome, CapabilityMissing):
        pytest.skip(outcome.message)
    return outcome


@pytest.mark.parametrize("packing", online_packings())
@pytest.mark.parametrize("backend", _usable())
def test_every_backend_runs_the_same_plan_with_the_same_ledger(backend: str, packing: str) -> None:
    outcome, other = _run(backend, packing), _run("numpy", packing)
    plan = outcome.job.plan
    assert plan.digest == other.job.plan.digest
    assert outcome.report.executed == other.report.executed == plan.counts.times(plan.runs(len(X)))


@pytest.mark.parametrize("packing", online_packings())
@pytest.mark.parametrize("backend", _usable())
def test_backends_agree_within_the_sum_of_their_tolerances(backend: str, packing: str) -> None:
    delta = _run(backend, packing).delta
    assert np.max(np.abs(delta - REFERENCE)) <= TOLERANCE
    for other in _usable():
        outcome = _outcome(other, packing)
        if not isinstance(outcome, CapabilityMissing):
            assert np.max(np.abs(delta - outcome.delta)) <= 2 * TOLERANCE
