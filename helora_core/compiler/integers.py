"""A module's weights as the integers that a plan which runs ahead of time computes with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule
from helora_core.compiler.compiled import Weights
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounding import check_rounding, on_grid
from helora_core.errors import InvalidProgram
from helora_core.packing.protocol import Correlated, ScaleRole

Factors = tuple[NDArray[np.int64], ...]
"""Integer matrices, applied one after the other."""


def integer_factors(plan: Plan, module: Weights) -> Factors:
    """A module's ``down`` and ``up`` on the plan's grid, without the columns and rows that its program leaves out.

    Raises:
        InvalidInput: The plan is for a module of another shape or exponent.
        InvalidProgram: The plan makes no correlations, or its layout does not say by which matrices.
        PrecisionLost: Rounding moves these weights further than the plan allows for.
    """
    correlation, layout = plan.correlation, plan.layout
    if correlation is None or not isinstance(layout, Correlated):
        raise InvalidProgram(
            f"Packing {plan.packing.name} does not say what is done online with what it makes ahead of time.",
            hint="Give its layout a method `factors`, as helora_core.packing.protocol.Correlated has.",
        )
    vectors = layout.constants(plan.normalized(module)) if isinstance(module, LoRAModule) else module.vectors(plan)
    matrices = dict(layout.factors(dict(vectors)))
    down, up = matrices[ScaleRole.DOWN], matrices[ScaleRole.UP]
    check_rounding(module.name, plan.shape, down, up, correlation)
    columns = list(plan.program.input_positions)
    rows = [output is not None for output in plan.program.outputs]
    return on_grid(down, plan.scales.down_bits)[:, columns], on_grid(up, plan.scales.up_bits)[rows]
