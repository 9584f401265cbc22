"""Modules made of modules: several on one input as one, and one without the ranks that do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from helora_core.adapter.lora import FloatArray, LoRAModule
from helora_core.errors import InvalidInput


def stack(modules: Sequence[LoRAModule]) -> LoRAModule:
    """One module that does what several do on the same input, as q, k and v projections.

    Their ``down`` matrices stand one below the other, their scaled ``up`` matrices along a diagonal of blocks; so Δ is
    theirs, one after the other (``unstack`` cuts it). Its rank is the sum of their ranks, its scaling 1.

    Raises:
        InvalidInput: There are none, or they take inputs of different widths.
    """
    if not modules or len({module.shape.d_in for module in modules}) != 1:
        widths = ", ".join(f"{module.name} takes {module.shape.d_in}" for module in modules)
        raise InvalidInput(
            f"Modules that share an input must take the same number of features: {widths or 'there are no modules'}.",
            hint="Share among q, k and v of one layer, or gate and up of one MLP.",
        )
    if len(modules) == 1:
        return modules[0]
    up = np.zeros((sum(module.shape.d_out for module in modules), sum(module.shape.rank for module in modules)))
    row = column = 0
    for module in modules:
        up[row : row + module.shape.d_out, column : column + module.shape.rank] = module.scaled_up
        row, column = row + module.shape.d_out, column + module.shape.rank
    return LoRAModule(_stacked_name(modules), np.concatenate([module.down for module in modules]), up, 1.0)


def unstack(delta: FloatArray, modules: Sequence[LoRAModule]) -> list[FloatArray]:
    """Each module's Δ, tokens × d_out, from that of their stack."""
    ends = list(accumulate(module.shape.d_out for module in modules))
    return np.split(delta, ends[:-1], axis=1)


def _stacked_name(modules: Sequence[LoRAModule]) -> str:
    """``layers.0.self_attn.{q_proj,v_proj}``: what the names have in common, and what they have not."""
    names = [module.name.split(".") for module in modules]
    common = 0
    while all(len(name) > common + 1 and name[common] == names[0][common] for name in names):
        common += 1
    endings = ",".join(".".join(name[common:]) for name in names)
    return ".".join([*names[0][:common], "{" + endings + "}"])


def compact(module: LoRAModule) -> LoRAModule:
    """The module without the ranks that add nothing to any Δ: zero rows of ``down``, zero columns of ``up``.

    Adapters that were pruned or trained with adaptive ranks have them. One rank stays even if all are such, since a
    module has a rank of at least 1; a gate of 0 is a scaling of 0, and leaves none alive.
    """
    alive = module.down.any(axis=1) & module.scaled_up.any(axis=0)
    if alive.all():
        return module
    kept = np.flatnonzero(alive) if alive.any() else np.array([0])
    scaling = module.scaling if alive.any() else 0.0
    down = module.down[kept] if alive.any() else np.zeros_like(module.down[kept])
    return LoRAModule(module.name, down, module.up[:, kept], scaling)
