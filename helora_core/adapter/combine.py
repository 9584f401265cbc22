"""Builds modules from modules: several with the same input stacked into one, and one without its zero ranks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from helora_core.adapter.lora import FloatArray, LoRAModule
from helora_core.errors import InvalidInput


def stack(modules: Sequence[LoRAModule]) -> LoRAModule:
    """One module that computes what several compute from the same input, such as q, k and v projections.

    Their ``down`` matrices are stacked, and their scaled ``up`` matrices form a block diagonal, so that Δ holds the
    modules' Δ one after another (``unstack`` splits it). The rank is the sum of their ranks, the scaling 1.

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
    """Each module's Δ, tokens × d_out, from the Δ of their stack."""
    ends = list(accumulate(module.shape.d_out for module in modules))
    return np.split(delta, ends[:-1], axis=1)


def _stacked_name(modules: Sequence[LoRAModule]) -> str:
    """A name such as ``layers.0.self_attn.{q_proj,v_proj}``: the common part of the names, and then their own parts."""
    names = [module.name.split(".") for module in modules]
    common = 0
    while all(len(name) > common + 1 and name[common] == names[0][common] for name in names):
        common += 1
    endings = ",".join(".".join(name[common:]) for name in names)
    return ".".join([*names[0][:common], "{" + endings + "}"])


def compact(module: LoRAModule) -> LoRAModule:
    """The module without the ranks that add nothing to Δ: those with a zero row of ``down`` or zero column of ``up``.

    Adapters that were pruned or trained with adaptive ranks have them. One rank stays even if all are zero, since a
    module's rank is at least 1. With a scaling of 0, as from a gate of 0, all ranks count as zero.
    """
    alive = module.down.any(axis=1) & module.scaled_up.any(axis=0)
    if alive.all():
        return module
    kept = np.flatnonzero(alive) if alive.any() else np.array([0])
    scaling = module.scaling if alive.any() else 0.0
    down = module.down[kept] if alive.any() else np.zeros_like(module.down[kept])
    return LoRAModule(module.name, down, module.up[:, kept], scaling)
