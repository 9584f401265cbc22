"""Splits many tokens into runs of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.packing.protocol import Vector


def check_activations(x: NDArray[Any], shape: ModuleShape, *, who: str) -> Vector:
    """The activations as float64 of shape (tokens, d_in).

    Raises:
        InvalidInput: They are not a real floating or integer array of that shape, have no tokens, or are not finite.
    """
    if x.dtype.kind not in "fiu" or x.ndim != 2 or x.shape[0] == 0 or x.shape[1] != shape.d_in:
        raise InvalidInput(
            f"{who}: activations must be real numbers of shape (tokens, {shape.d_in}), not {x.dtype}, shape {x.shape}.",
            hint="Give one row per token, as in the module's input.",
        )
    activations: Vector = x.astype(np.float64)
    if not np.isfinite(activations).all():
        raise InvalidInput(f"{who}: activations hold NaN or infinity.", hint="Check the layer that computed them.")
    return activations


def batches(plan: Plan, x: Vector) -> Iterator[Vector]:
    """Consecutive runs of at most ``plan.tokens_per_run`` tokens; the last may have fewer."""
    for start in range(0, x.shape[0], plan.tokens_per_run):
        yield x[start : start + plan.tokens_per_run]
