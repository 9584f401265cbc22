"""What rounding a module's weights to plaintexts moves its results by, held to what the plan's bound takes it for.

Plaintexts of slots are rounded in their coefficients, and every slot moves a little. Of a sum of products with a row of
weights, the worst x moves it by √(Σ δ²), over the terms of the row (Cauchy and Schwarz). Σ δ² is the program's own sum:
squares of what each plaintext's slots moved, added up as products are, and rotated as they are.

Nearly all weights keep the bound. Structured ones may not, whose plaintexts have few coefficients or are alike, so that
what is cut off adds up: those are dithered, and keep it too.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.compiler.error_flow import MEAN_ROUNDING_SLACK, rounding_slack
from helora_core.compiler.ir import PRODUCTS, ConstantSpec, OpKind, Program, plaintexts
from helora_core.compiler.plan import Plan
from helora_core.packing.protocol import ScaleRole, Vector
from helora_core.params import noise

Squares = NDArray[np.float32]


def rounding_squares(vector: Vector, spec: ConstantSpec, ring_degree: int, dither: Vector | None = None) -> Squares:
    """By how much rounding moves each slot, squared, in units of the plaintext's grid: float32, shape (N/2,).

    Args:
        vector: The slots of a plaintext.
        spec: How it is encoded.
        ring_degree: N.
        dither: What was added to the slots before; it is part of what moves them.
    """
    slots = np.zeros(ring_degree // 2)
    slots[: vector.size] = vector
    given = slots if dither is None else slots + dither
    coefficients = slots_to_coefficients(np.ldexp(given, spec.scale_bits).astype(np.complex128), ring_degree)
    moved = coefficients_to_slots(np.rint(coefficients), ring_degree).real - np.ldexp(slots, spec.scale_bits)
    return (moved**2).astype(np.float32)


def dither(spec: ConstantSpec, ring_degree: int) -> Vector:
    """Noise to add to a plaintext's slots before it is rounded: uniform within a grid step in every coefficient.

    What rounding then does is random whatever the weights are (Schuchman, IEEE Trans. Communication Technology 12
    (1964)), with twice the mean square that it has for weights that are random themselves.

    Returns:
        float64, shape (N/2,): real slots, since the polynomial is its own conjugate.
    """
    half = ring_degree // 2
    words = np.frombuffer(secrets.token_bytes(8 * half), dtype=np.uint64)
    uniform = words.astype(np.float64) * 2.0**-64 - 0.5
    coefficients = np.zeros(ring_degree)
    coefficients[:half] = uniform
    coefficients[half + 1 :] = -uniform[:0:-1]
    return np.ldexp(coefficients_to_slots(coefficients, ring_degree).real, -spec.scale_bits)


def moves_too_much(plan: Plan, squares: Mapping[str, Squares]) -> bool:
    """Whether rounding weights moves a result by more than the plan's bound takes it for.

    Args:
        plan: The plan, of a program in slots.
        squares: What ``rounding_squares`` gives for each plaintext.
    """
    each = noise.slot_encoding_std(plan.params.ring_degree) ** 2
    for role, (largest, mean) in _row_energies(plan.program, squares).items():
        terms = plan.shape.d_in if role is ScaleRole.DOWN else plan.shape.rank
        count = _terms(plan, role)
        if largest > count * each * rounding_slack(terms) or mean > count * each * MEAN_ROUNDING_SLACK:
            return True
    return False


def _terms(plan: Plan, role: ScaleRole) -> int:
    """Terms that a row of the program has, padding included."""
    figures = plan.layout.figures
    period = figures.get("period", 0)
    if role is ScaleRole.UP:
        return max(plan.shape.rank, figures.get("padded_rank", 0))
    return max(plan.shape.d_in, figures.get("blocks_in", 1) * period)


def _row_energies(program: Program, squares: Mapping[str, Squares]) -> dict[ScaleRole, tuple[float, float]]:
    """Of ``down`` and of ``up``, the largest Σ δ² of a row and the largest mean over a value's slots: at the values
    that a further product reads, or that are results.
    """
    energies: list[Squares | float] = []
    roles: list[ScaleRole | None] = []
    worst: dict[ScaleRole, tuple[float, float]] = {}

    def note(value: int) -> None:
        role, energy = roles[value], energies[value]
        if role is not None and not isinstance(energy, float):
            largest, mean = worst.get(role, (0.0, 0.0))
            worst[role] = max(largest, float(np.max(energy))), max(mean, float(np.mean(energy)))

    for op in program.ops:
        energy: Squares | float = 0.0
        role = next((roles[arg] for arg in op.args if roles[arg] is not None), None)
        if op.kind in PRODUCTS:
            for arg in op.args:
                note(arg)
            role = op.role
            for name in plaintexts(op):
                energy = energy + squares[name] if name in squares else energy
        elif op.kind is OpKind.ROTATE:
            source = energies[op.args[0]]
            energy = source if isinstance(source, float) else np.roll(source, -op.steps)
        else:
            for arg in op.args:
                energy = energy + energies[arg]
        energies.append(energy)
        roles.append(role)
    for output in program.results:
        note(output)
    return worst
