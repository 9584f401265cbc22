"""Calibrated backends whose operations take what a test says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Packing
from helora_core.planning.planner import CalibratedBackend
from helora_core.planning.profile import Profile

MakeProfile = Callable[..., Profile]

SHAPE = ModuleShape.parse("256:128:8")
OPEN = Constraints(private_weights=False, sanitize_bits=None)


def packings(*names: str) -> list[Packing]:
    return [get_manager().load_packing(name) for name in names]


def times(**milliseconds: float) -> Callable[[str, int, int], float]:
    """Nanoseconds by operation, 1 µs for what is not named; in twice the ring everything takes twice as long."""
    return lambda operation, level, ring: 1e6 * milliseconds.get(operation, 1e-3) * ring / 8192


@pytest.fixture
def calibrated(make_profile: MakeProfile) -> Callable[..., CalibratedBackend]:
    """A machine of the emulation's abilities on which operations take what is said."""
    return lambda **milliseconds: CalibratedBackend(
        get_manager().load_backend("numpy"), make_profile(time=times(**milliseconds), backend="numpy")
    )


def asked(tokens: int, constraints: Constraints = OPEN, module: LoRAModule | None = None) -> PlanRequest:
    return PlanRequest(
        shape=SHAPE if module is None else module.shape, module=module, tokens=(tokens,), constraints=constraints
    )
