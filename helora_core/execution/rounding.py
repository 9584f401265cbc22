"""How far rounding a module's weights to plaintexts moves its results, checked against the plan's bound.

Plaintexts of slots are rounded in their coefficients, which moves every slot by a small δ. A sum of products with a row
of weights moves by at most √(Σ δ²) over the terms of the row, for the worst x (Cauchy and Schwarz). Σ δ² is computed by
the program itself, on the squares of the slots' errors, which are added and rotated as the products are.

Nearly all weights meet the bound. Structured weights may not, if their plaintexts have few coefficients or are alike,
so that rounding errors add up: these are dithered, and then meet it too.
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
    """The squared rounding error of each slot, in units of the plaintext's grid: float32, shape (N/2,).

    Args:
        vector: The slots of a plaintext.
        spec: How it is encoded.
        ring_degree: N.
        dither: Noise that was added to the slots before; it counts as part of the error.
    """
    slots = np.zeros(ring_degree // 2)
    slots[: vector.size] = vector
    given = slots if dither is None else slots + dither
    coefficients = slots_to_coefficients(np.ldexp(given, spec.scale_bits).astype(np.complex128), ring_degree)
    moved = coefficients_to_slots(np.rint(coefficients), ring_degree).real - np.ldexp(slots, spec.scale_bits)
    return (moved**2).astype(np.float32)


def dither(spec: ConstantSpec, ring_degree: int) -> Vector:
    """Noise to add to a plaintext's slots before it is rounded: uniform within a grid step in every coefficient.

    The rounding error is then random whatever the weights are (Schuchman, IEEE Trans. Communication Technology 12
    (1964)), with twice the mean square that it has for random weights.

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
    """Whether rounding weights moves a result by more than the plan's bound allows.

    Args:
        plan: The plan, of a program in slots.
        squares: The result of ``rounding_squares`` for each plaintext.
    """
    each = noise.slot_encoding_std(plan.params.ring_degree) ** 2
    for role, (largest, mean) in _row_energies(plan.program, squares).items():
        terms = plan.shape.d_in if role is ScaleRole.DOWN else plan.shape.rank
        count = _terms(plan, role)
        if largest > count * each * rounding_slack(terms) or mean > count * each * MEAN_ROUNDING_SLACK:
            return True
    return False


def _terms(plan: Plan, role: ScaleRole) -> int:
    """The number of terms in a row of the program, padding included."""
    figures = plan.layout.figures
    period = figures.get("period", 0)
    if role is ScaleRole.UP:
        return max(plan.shape.rank, figures.get("padded_rank", 0))
    return max(plan.shape.d_in, figures.get("blocks_in", 1) * period)


def _row_energies(program: Program, squares: Mapping[str, Squares]) -> dict[ScaleRole, tuple[float, float]]:
    """For ``down`` and for ``up``, the largest Σ δ² of a row and the largest mean over a value's slots, over all values
    that are results or that a further product reads.
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
