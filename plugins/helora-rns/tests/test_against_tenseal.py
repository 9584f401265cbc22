"""The same module and activations on our own engine and on SEAL: both within the plan's bound, at every packing.

SEAL shares no line of code with the engine, so an error in what it believes of CKKS shows here.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.session import open_sessions
from helora_core.compiler.compile import compile_request
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import BackendTraits, Constraints, PlanRequest
from helora_core.conformance.suites.lora import registered_packings
from helora_core.execution.constants import encode_constants
from helora_core.host.manager import get_manager
from helora_core.parties.module_run import ModuleRun, run_module

BACKENDS = ("rns", "tenseal")
SHAPE, TOKENS = ModuleShape.parse("12:20:2"), 3


@pytest.fixture(scope="module", autouse=True)
def _tenseal(request: pytest.FixtureRequest) -> None:
    if importlib.util.find_spec("tenseal") is not None and "tenseal" in get_manager().backends():
        return
    reason = "TenSEAL is not installed, and nothing else checks the engine against other code"
    if request.config.getoption("--helora-require"):
        pytest.fail(reason)
    pytest.skip(reason)


def plan_for_both(packing: str, sanitize_bits: int | None) -> Plan:
    """A plan whose bound holds on either backend."""
    constraints = Constraints(private_weights=False, sanitize_bits=sanitize_bits)
    traits = BackendTraits.of(get_manager().load_backend(name).capabilities for name in BACKENDS)
    request = PlanRequest(shape=SHAPE, tokens=(TOKENS,), constraints=constraints, traits=traits)
    return compile_request(request, get_manager().load_packing(packing))


def run_on(backend: str, plan: Plan) -> ModuleRun:
    module, x = synthetic_module(SHAPE, seed=1), synthetic_activations(SHAPE, TOKENS, seed=2)
    client, server = open_sessions(
        get_manager().load_backend(backend), plan.params, plan.rotation_steps, public_key=plan.needs_public_key
    )
    owner = module if plan.packing.client_finishes else None
    return run_module(plan, encode_constants(plan, module, server.encoder), client, server, x, client_module=owner)


@pytest.mark.parametrize("sanitize_bits", [None, 40], ids=["bare", "sanitised"])
@pytest.mark.parametrize("packing", sorted(registered_packings()))
def test_both_backends_stay_within_the_bound_of_one_plan(packing: str, sanitize_bits: int | None) -> None:
    plan = plan_for_both(packing, sanitize_bits)
    ours, theirs = (run_on(name, plan) for name in BACKENDS)
    assert ours.executed == theirs.executed
    exact = synthetic_module(SHAPE, seed=1).reference_delta(synthetic_activations(SHAPE, TOKENS, seed=2))
    # Each has a bound of its own: digits of key switches are centred here, and not in SEAL.
    for found in (ours, theirs):
        assert (np.abs(found.delta - exact) <= found.error_bound[:, np.newaxis]).all()
    both = (ours.error_bound + theirs.error_bound)[:, np.newaxis]
    assert (np.abs(ours.delta - theirs.delta) <= both).all()
    assert not np.array_equal(ours.delta, theirs.delta), "noise is fresh"
