"""Small modules served on the emulation: parties that cost milliseconds a request."""

from __future__ import annotations

from typing import Any

import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.host.manager import get_manager
from helora_core.parties.compiled_lora import CompiledLoRA

SHAPE = ModuleShape.parse("24:20:3")


def x_of(tokens: int, seed: int = 0) -> Any:
    """Activations of so many tokens."""
    return synthetic_activations(SHAPE, tokens, seed=seed)


def compiled(name: str, packing: str, seed: int, shape: ModuleShape = SHAPE, **options: Any) -> CompiledModule:
    """A synthetic module with its plan."""
    module = synthetic_module(shape, seed=seed, name=name)
    plan = compile_plan(shape, get_manager().load_packing(packing), module=module, **options)
    return CompiledModule(module, (Part(name=name, d_out=shape.d_out),), plan)


def dead(name: str) -> CompiledModule:
    """A module whose Δ is zero."""
    module = synthetic_module(SHAPE, seed=9, name=name)
    module = LoRAModule(name, module.down, module.up * 0.0, module.scaling)
    plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), module=module)
    return CompiledModule(module, (Part(name=name, d_out=SHAPE.d_out),), plan)


@pytest.fixture(scope="session")
def lora() -> CompiledLoRA:
    """Two modules of one shape and packing, one in two rounds, and a dead one."""
    modules = (
        compiled("layer.q_proj", "rank_bsgs", 1),
        compiled("layer.v_proj", "rank_bsgs", 2),
        compiled("layer.two_rounds", "cheetah_two_round", 3),
        dead("layer.dead"),
    )
    return CompiledLoRA(modules, get_manager().load_backend("numpy"), secure=False)
