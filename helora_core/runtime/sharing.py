"""Finds the modules of a layer that get one input, and makes one module of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.combine import stack
from helora_core.adapter.lora import LoRAModule


def shared_inputs(inputs: Sequence[tuple[LoRAModule, NDArray[Any]]]) -> list[tuple[LoRAModule, NDArray[Any]]]:
    """Stack modules of one parent (``…self_attn.q_proj`` and ``…self_attn.v_proj``) whose activations are equal.

    Args:
        inputs: Modules with their activations, tokens × d_in.

    Returns:
        Stacked modules and those that share nothing, in the order of the first of each.
    """
    groups: list[tuple[list[LoRAModule], NDArray[Any]]] = []
    for module, x in inputs:
        for modules, shared in groups:
            if _parent(modules[0]) == _parent(module) and np.array_equal(shared, x):
                modules.append(module)
                break
        else:
            groups.append(([module], x))
    return [(stack(modules), x) for modules, x in groups]


def _parent(module: LoRAModule) -> str:
    return module.name.rpartition(".")[0]
