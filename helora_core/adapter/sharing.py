"""Finds the modules of a layer that get one input, which may run as one (``helora_core.adapter.combine.stack``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule


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


def _parent(module: LoRAModule) -> str:
    return module.name.rpartition(".")[0]
