"""How far rounding to the grid moves a module's rows, held to what its plan allows for.

It is known of the shape only for remainders that are as good as random (``helora_core.compiler.grid``). Here it is
worked out from the weights. With the integers U'' and D'' over their grids, and remainders U° and D°,

    U·D − U''·D'' = U°·D + U''·D° = [U° U'']·[D; D°],

and norms of the rows of such a product follow from the Gram matrix of the second factor, of 2·rank rows. Plaintexts
that leave zeros out, or whole rows, are no different: a zero is on the grid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.grid import Correlation, weight_allowance
from helora_core.errors import PrecisionLost
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import WRAP_BITS

_DOUBLES = 2.0**-40
"""More than the relative error of the square of a norm, by way of a Gram matrix in doubles."""

_HINT = "Compile it with an online packing, such as rank_bsgs, whose bound holds for all weights."


def on_grid(weights: Vector, bits: int) -> NDArray[np.int64]:
    """The nearest integers to weights times 2^bits."""
    return np.rint(np.ldexp(weights, bits)).astype(np.int64)


def moved_by_rounding(down: Vector, up: Vector, down_bits: int, up_bits: int) -> float:
    """max_o ‖(U·D − U''·D''·2^-(down_bits+up_bits))_o‖₂: never too small.

    Args:
        down: D, shape (rank, d_in).
        up: U, shape (d_out, rank).
        down_bits, up_bits: Their grids.
    """
    whole_down, whole_up = (np.ldexp(on_grid(each, bits), -bits) for each, bits in ((down, down_bits), (up, up_bits)))
    # Both halves of the inner dimension are brought to one size.
    left = np.concatenate((np.ldexp(up - whole_up, up_bits), whole_up), axis=1)
    right = np.concatenate((np.ldexp(down, -up_bits), down - whole_down))
    return _largest_row(left, right)


def check_rounding(name: str, shape: ModuleShape, down: Vector, up: Vector, correlation: Correlation) -> None:
    """Check that a module's Δ stays within its plan's bound, and its integers within the wrap limb.

    Args:
        name: The module's name.
        shape: The plan's shape.
        down: Its normalised ``down``.
        up: Its normalised ``up``, times the scaling.
        correlation: The plan's.

    Raises:
        PrecisionLost: Rounding moves a row further than the plan allows for, or a result could wrap around.
    """
    grid = correlation.grid
    moved = moved_by_rounding(down, up, grid.down_bits, grid.up_bits)
    allowed = weight_allowance(shape, grid.down_bits, grid.up_bits)
    if moved > allowed:
        raise PrecisionLost(
            f"Module {name}: rounding its weights to integers moves a row of up·down by 2^{math.log2(moved):.1f}; the "
            f"plan allows for 2^{math.log2(allowed):.1f}, as random remainders give. Its weights are far from random.",
            hint=_HINT,
        )
    rows = _largest_row(on_grid(up, grid.up_bits).astype(np.float64), on_grid(down, grid.down_bits).astype(np.float64))
    largest = (2.0**grid.x_bits + math.sqrt(shape.d_in) / 2) * rows
    if largest >= 2.0 ** (WRAP_BITS - 1) - 4 * 2.0**correlation.dropped_bits:
        raise PrecisionLost(
            f"Module {name}: integers of Δ of up to {math.log2(largest):.2f} bits could wrap around {WRAP_BITS} bits.",
            hint=_HINT,
        )


def _largest_row(left: Vector, right: Vector) -> float:
    """max_o ‖(left·right)_o‖₂, from right·rightᵀ; never too small."""
    gram = right @ right.T
    squares = np.sum(left @ gram * left, axis=1)
    slack = _DOUBLES * np.sum(left * left, axis=1) * np.trace(gram)
    return math.sqrt(float(np.max(squares + slack, initial=0.0)))
