"""The plans whose figures are in the pictures: those that the demo runs, on our own engine's traits."""

from __future__ import annotations

from functools import lru_cache

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.host.manager import get_manager
from helora_core.planning.planner import CalibratedBackend, Candidate, rank

BACKEND = "rns"
TOKENS = 16


@lru_cache
def ranked(shape: ModuleShape, tokens: int = TOKENS) -> tuple[Candidate, ...]:
    """Every packing for a shape, ranked as ``helora explain`` does where nothing was calibrated."""
    manager = get_manager()
    backend = manager.load_backend(BACKEND)
    packings = [manager.load_packing(name) for name in manager.packings()]
    request = PlanRequest(shape=shape, tokens=(tokens,), constraints=Constraints(target_bits=14))
    return tuple(rank(request, {BACKEND: CalibratedBackend(backend, None)}, packings))


def demo_plan(shape: ModuleShape) -> Plan:
    """The plan that the demo runs a module of this shape by."""
    plan = ranked(shape)[0].plan
    assert plan is not None
    return plan
