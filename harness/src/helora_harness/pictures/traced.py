"""Programs of packings, run on names in place of numbers: what each slot or coefficient holds, term by term."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.ir import Op, OpKind

Term = tuple[str, ...]
"""The names that are multiplied in one term."""
Place = Counter[Term]
"""The terms that one slot or coefficient holds, each as often as it is added."""


def numbered(shape: ModuleShape) -> tuple[LoRAModule, dict[float, str]]:
    """A module whose weights are all different, and the name of each: ``d0,3`` is down[0, 3], ``u3,0`` is up[3, 0]."""
    down = np.arange(shape.rank * shape.d_in, dtype=np.float64).reshape(shape.rank, shape.d_in) + 1
    up = np.arange(shape.d_out * shape.rank, dtype=np.float64).reshape(shape.d_out, shape.rank) + 1 + down.size
    names = {float(down[place]): f"d{place[0]},{place[1]}" for place in np.ndindex(down.shape)}
    names |= {float(up[place]): f"u{place[0]},{place[1]}" for place in np.ndindex(up.shape)}
    module = LoRAModule(name="module", down=down, up=up, scaling=1.0)
    return module, names


def inputs(x: Sequence[float], tokens: int, features: int) -> list[Place]:
    """Packed activations, where feature f of token t is the number 1 + t·features + f."""
    numbers = {1.0 + t * features + f: f"x{t},{f}" for t in range(tokens) for f in range(features)}
    return [Counter({(numbers[value],): 1}) if value else Counter() for value in map(float, x)]


def trace(ops: Sequence[Op], x: list[Place], constants: Mapping[str, Sequence[str]]) -> list[list[Place]]:
    """What every value of a program in slots holds, in each slot."""
    values: list[list[Place]] = []
    for op in ops:
        operands = [values[arg] for arg in op.args]
        if op.kind is OpKind.INPUT:
            values.append(x)
        elif op.kind is OpKind.ROTATE:
            values.append(operands[0][op.steps :] + operands[0][: op.steps])
        elif op.kind is OpKind.MULTIPLY_PLAIN:
            factors = constants[op.constant]
            values.append([times(place, factor) for place, factor in zip(operands[0], factors, strict=True)])
        elif op.kind is OpKind.ADD:
            values.append([left + right for left, right in zip(*operands, strict=True)])
        else:
            values.append(operands[0])
    return values


def times(place: Place, factor: str) -> Place:
    """Every term of a place times a name."""
    return Counter({tuple(sorted((*term, factor))): count for term, count in place.items()})


def negacyclic(left: Sequence[Place], right: Sequence[str]) -> list[Place]:
    """The product of two polynomials modulo X^N + 1, signs left out."""
    places: list[Place] = [Counter() for _ in left]
    for i, place in enumerate(left):
        for j, name in enumerate(right):
            if name:
                places[(i + j) % len(left)] += times(place, name)
    return places
