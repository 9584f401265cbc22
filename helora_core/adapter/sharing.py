"""Finds the modules of a layer that get one input, which may run as one (``helora_core.adapter.combine.stack``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule

INPUT_GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Projections of a decoder layer that get the same input."""


def shared_inputs(
    inputs: Sequence[tuple[LoRAModule, NDArray[Any]]],
) -> list[tuple[tuple[LoRAModule, ...], NDArray[Any]]]:
    """Group modules of one parent (``…self_attn.q_proj`` and ``…self_attn.v_proj``) whose activations are equal.

    Args:
        inputs: Modules with their activations, tokens × d_in.

    Returns:
        Groups of one or more modules with their one input, in the order of the first of each.
    """
    groups: list[tuple[list[LoRAModule], NDArray[Any]]] = []
    for module, x in inputs:
        for modules, shared in groups:
            if _parent(modules[0]) == _parent(module) and np.array_equal(shared, x):
                modules.append(module)
                break
        else:
            groups.append(([module], x))
    return [(tuple(modules), x) for modules, x in groups]


def input_groups(names: Sequence[str]) -> list[list[str]]:
    """Names of one parent whose last parts stand in one of ``INPUT_GROUPS``, together; all others alone."""
    groups: dict[tuple[str, int | str], list[str]] = {}
    for name in names:
        parent, _, ending = name.rpartition(".")
        group = next((i for i, endings in enumerate(INPUT_GROUPS) if ending in endings), None)
        groups.setdefault((parent, name if group is None else group), []).append(name)
    return list(groups.values())


def _parent(module: LoRAModule) -> str:
    return module.name.rpartition(".")[0]
