"""The oracle: the same program on plain vectors, and how far a result is from what it should be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.packing.protocol import Vector

FLOAT64_BITS = 53.0


def execute_plain(program: Program, inputs: Sequence[Vector], constants: Mapping[str, Vector]) -> list[Vector]:
    """Run ``program`` in float64 on full slot vectors: slow, plain, and independent of any library.

    Raises:
        ValueError: The number of inputs is not the program's.
    """
    given = dict(zip(program.inputs, inputs, strict=True))
    values: list[Vector] = []
    for i, op in enumerate(program.ops):
        operands = [values[arg] for arg in op.args]
        if op.kind is OpKind.INPUT:
            values.append(_padded(given[i], program.slots))
        elif op.kind is OpKind.ROTATE:
            values.append(np.roll(operands[0], -op.steps))
        elif op.kind is OpKind.MULTIPLY_PLAIN:
            values.append(operands[0] * _padded(constants[op.constant], program.slots))
        elif op.kind is OpKind.ADD:
            values.append(operands[0] + operands[1])
        else:
            values.append(operands[0])
    return [values[output] for output in program.outputs]


def run_plain(plan: Plan, module: LoRAModule, x: Vector) -> Vector:
    """Δ of one run (x of shape (tokens, d_in)) by way of the plan, without encryption."""
    outputs = execute_plain(plan.program, plan.pack(x), dict(plan.layout.constants(module)))
    return plan.unpack(outputs, x.shape[0], module if plan.packing.client_finishes else None)


def precision_bits(result: Vector, reference: Vector) -> float:
    """−log2(max|result − reference| / max|reference|), at most 53.

    An all-zero reference has no relative error; then the absolute one stands in, −log2(max|result|). A result that
    holds NaN has no precision at all: −inf.
    """
    error = float(np.max(np.abs(result - reference)))
    magnitude = float(np.max(np.abs(reference))) or 1.0
    if math.isnan(error):
        return -math.inf
    return FLOAT64_BITS if error == 0.0 else min(FLOAT64_BITS, -math.log2(error / magnitude))


def _padded(vector: Vector, slots: int) -> Vector:
    return np.pad(vector, (0, slots - vector.size))
