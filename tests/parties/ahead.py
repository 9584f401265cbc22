"""Modules that are prepared ahead of time, and the LoRA in integers as anybody would write it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.exponents import normalized_tokens
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Vector
from helora_core.privacy.leakage import Assumption

ASSUME = (Assumption.HONEST_KEYS,)

TRIMMED, EXACT = "precomputed", "precomputed_exact"


def prepared(module: LoRAModule, packing: str = EXACT, **options: Any) -> CompiledModule:
    """A module with its plan."""
    load = get_manager().load_packing
    plan = compile_plan(
        module.shape, load(packing), module=module, **{"precision_bits": 8.0, "assume": ASSUME, **options}
    )
    return CompiledModule(module, (Part(name=module.name, d_out=module.shape.d_out),), plan)


def prepared_module(name: str, seed: int, shape: ModuleShape, packing: str = EXACT, **options: Any) -> CompiledModule:
    """A synthetic module with its plan."""
    return prepared(synthetic_module(shape, seed=seed, name=name), packing, **options)


def integer_delta(compiled: CompiledModule, x: Vector) -> Vector:
    """Δ of the LoRA in integers: x and weights on the grid."""
    assert isinstance(compiled.module, LoRAModule)
    assert compiled.plan.correlation is not None
    module, grid = compiled.plan.normalized(compiled.module), compiled.plan.correlation.grid
    scaled, exponents = normalized_tokens(x)
    z = _integers(scaled, grid.x_bits) @ _integers(module.down, grid.down_bits).T
    delta = z @ _integers(module.scaled_up, grid.up_bits).T
    return np.ldexp(delta.astype(np.float64), exponents[:, np.newaxis] + (compiled.plan.exponent or 0) - grid.bits)


def unit(compiled: CompiledModule, x: Vector) -> Vector:
    """What the last bit that a plan keeps of each token's Δ stands for: shape (tokens, 1)."""
    assert compiled.plan.correlation is not None
    correlation = compiled.plan.correlation
    _, exponents = normalized_tokens(x)
    dropped = 64 - correlation.answer_bits - correlation.grid.bits
    return np.ldexp(np.ones((len(x), 1)), exponents[:, np.newaxis] + (compiled.plan.exponent or 0) + dropped)


def _integers(numbers: Vector, bits: int) -> NDArray[np.int64]:
    integers: NDArray[np.int64] = np.rint(np.ldexp(numbers, bits)).astype(np.int64)
    return integers
