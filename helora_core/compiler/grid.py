"""The grid of a plan that runs ahead of time: Δ is an integer on the packing's grid, and noise is rounded away.

Activations and weights are integers x″, D and U on the grid. The client sends g further bits below x″, the *guard*, and
reads 2^g·UDx″ + e: as long as the noise e, flood included, is below 2^(g−1), rounding gives UDx″ exactly. The error
of Δ is then only that of rounding activations and weights to the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales, ValueInfo
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.precision import MOST_BITS, PrecisionReport
from helora_core.compiler.signal import expected_delta
from helora_core.errors import InvalidParameters, PrecisionLost
from helora_core.packing.protocol import Grid, OnGrid, Packing, Vector
from helora_core.params.ckks import CKKSParams
from helora_core.params.flat import HEADROOM_BITS

MOST_GRID_BITS = 46
"""Integers of Δ are read through doubles, which must hold them and the guard's first bits."""

_KEPT = ("weight rounding", "float64")


def grid_of(packing: Packing) -> Grid:
    """The packing's grid.

    Raises:
        InvalidParameters: The packing has no grid, or one that is too fine.
    """
    if not isinstance(packing, OnGrid):
        raise InvalidParameters(
            f"Packing {packing.name} runs ahead of time but has no grid.",
            hint="Give it an attribute `grid`, as helora_core.packing.protocol.OnGrid has.",
        )
    if min(packing.grid.x_bits, packing.grid.down_bits, packing.grid.up_bits) < 1 or packing.grid.bits > MOST_GRID_BITS:
        raise InvalidParameters(
            f"Packing {packing.name}: a grid of {packing.grid.bits} bits; up to {MOST_GRID_BITS} can be read.",
            hint="Use a coarser grid of activations or weights.",
        )
    return packing.grid


def scales_on(grid: Grid, params: CKKSParams) -> Scales:
    """Scales that put weights on the grid, and activations above as many guard bits as fit.

    Raises:
        InvalidParameters: There is no prime above the lower ones, or no room for a guard bit.
    """
    lower, upper = sum(params.data_bits[:-1]), params.data_bits[-1]
    guard = lower - HEADROOM_BITS - grid.bits
    if len(params.data_bits) < 2 or guard < 1:
        raise InvalidParameters(
            f"Integers of {grid.bits} bits with a guard do not fit data primes of {list(params.data_bits)} bits.",
            hint="Leave the choice of parameters to the plan, or use longer primes.",
        )
    return Scales(input_bits=grid.x_bits + guard + upper, down_bits=grid.down_bits, up_bits=grid.up_bits)


class Correlation(msgspec.Struct, frozen=True):
    """How activations are combined with results made ahead of time; plans that share those have equal ones.

    Attributes:
        grid: The grid on which activations and weights are integers.
        guard_bits: Bits below an activation, for the noise.
        lower: The number of data primes, from the first, that form the modulus.
    """

    grid: Grid
    guard_bits: int
    lower: int


def correlation_of(
    program: Program, values: Sequence[ValueInfo], packing: Packing, scales: Scales, params: CKKSParams
) -> Correlation | None:
    """A plan's kind of correlations; None if nothing is made ahead of time. Errors are those of ``grid_of``."""
    if not program.offline or not program.results:
        return None
    grid, level = grid_of(packing), values[program.results[0]].level
    upper = sum(params.data_bits[level + 1 :])
    return Correlation(grid, scales.input_bits - upper - grid.x_bits, level + 1)


def read_places(program: Program) -> dict[str, NDArray[np.int64]]:
    """For each vector of numbers, the places of those that the program multiplies by."""
    places: dict[str, set[int]] = {}
    for op in program.ops:
        if op.kind is OpKind.DOT_SCALARS:
            places.setdefault(op.constant, set()).update(op.positions)
    return {name: np.array(sorted(of), dtype=np.int64) for name, of in places.items()}


def numbers_on_grid(vector: Vector, bits: int, places: NDArray[np.int64]) -> Vector:
    """The nearest multiples of 2^-bits; but ±2^-bits instead of zero if the program multiplies by it.

    No library multiplies by zero, and the number used instead must equal the one used online:
    times the client's randomness the difference could be anything. So a number is off by 2^-bits at most.
    """
    integers = np.rint(np.ldexp(vector, bits))
    zero = places[integers[places] == 0]
    integers[zero] = np.where(vector[zero] < 0, -1.0, 1.0)
    return np.ldexp(integers, -bits)


def on_grid(report: PrecisionReport, correlation: Correlation, shape: ModuleShape) -> PrecisionReport:
    """The precision report after results are rounded to the grid.

    Rounding ‖x‖₂ ≤ 1 moves it by √d_in·2^-(x_bits+1) at most, and Δ by no more.

    Raises:
        PrecisionLost: The noise reaches the grid.
    """
    if not report.terms:
        return report
    kept = {name: share * report.error_bound for name, share in report.terms.items() if name in _KEPT}
    noise = report.error_bound - sum(kept.values())
    grid, room = correlation.grid, correlation.guard_bits
    if noise >= 2.0 ** -(grid.bits + 2):
        raise PrecisionLost(
            f"Noise of {math.log2(noise) + grid.bits + room:.0f} bits reaches the grid, {room} bits above it.",
            hint="Use longer primes, or sanitise to fewer bits.",
        )
    amplitudes = kept | {"input rounding": math.sqrt(shape.d_in) * 2.0 ** -(grid.x_bits + 1)}
    bound = sum(amplitudes.values())
    return msgspec.structs.replace(
        report,
        error_bound=bound,
        bits=min(MOST_BITS, math.log2(expected_delta(shape) / bound)),
        terms={name: amplitude / bound for name, amplitude in amplitudes.items()},
    )
