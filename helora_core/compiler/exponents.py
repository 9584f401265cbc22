"""Powers of two factored out of weights and activations, so that no value of any program exceeds one.

Block floating point at the edges. The client scales each token's x to ‖x‖₂ ≤ 1. In the module, each row of ``down`` is
scaled and its column of ``up`` by the inverse, so that all rows weigh alike; then ``down`` to a spectral norm ≤ 1 and
``up`` to rows of ‖·‖₂ ≤ 1. All factors are powers of two, which scale exactly, and leave scaled norms above one half.
Then, by Cauchy–Schwarz,

    |z_j| ≤ ‖z‖₂ ≤ 1,    |Δ_o| ≤ ‖up_o‖₂·‖z‖₂ ≤ 1,

and so are all partial sums of products, since each leaves terms out. If a packing multiplies by up·down at once, it
is the rows of that product that are scaled to ‖·‖₂ ≤ 1, unless its terms nearly cancel. Bounds on errors and headroom
rely on these norms: they hold for all weights and activations, large, small or concentrated.

What remains to undo on Δ is one power of two per token, known to the client, and one per module, which is public: it
reveals the size of the weights to a factor of two."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule

LARGEST_NORM = 1 + 2.0**-30
"""The largest value that a norm of one may have in doubles."""


MOST_CANCELLED_BITS = 8
"""By how many bits up·down may be smaller than its terms and still be scaled to one. If terms cancel further, what
is left is rounding in doubles, and must not be scaled up to look like a value."""


LARGEST_EXPONENT = 1000
"""Smaller powers of two are normal doubles, whose products are rounded once."""

_LEAST_SQUARE = 1e-200
"""From here to its inverse, values whose squares vanish do not matter, and none overflows."""


def normalized(module: LoRAModule, *, merged: bool = False) -> tuple[LoRAModule, int]:
    """The module scaled as above, and the exponent e: its Δ is 2^e times that of the scaled one.

    The result is cached as long as the module exists.

    Args:
        module: Any module; one whose Δ is always zero is returned with exponent 0.
        merged: Whether a packing multiplies by up·down at once.
    """
    known = _KNOWN.setdefault(module, {})
    if merged not in known:
        known[merged] = _normalized(module, merged)
    return known[merged]


_KNOWN: WeakKeyDictionary[LoRAModule, dict[bool, tuple[LoRAModule, int]]] = WeakKeyDictionary()


def _normalized(module: LoRAModule, merged: bool) -> tuple[LoRAModule, int]:
    rows = np.array([exponent_of(norm) for norm in _row_norms(module.down)])
    down = np.ldexp(module.down, -rows[:, np.newaxis])
    up = np.ldexp(module.scaled_up, rows)
    spectral = exponent_of(spectral_norm(down))
    down = np.ldexp(down, -spectral)
    exponent = exponent_of(row_norm(up))
    if merged:
        exponent = max(exponent_of(row_norm(up @ down)), exponent - MOST_CANCELLED_BITS)
    scaled = LoRAModule(module.name, down, np.ldexp(up, -exponent), 1.0)
    return scaled, exponent + spectral


def is_normalized(module: LoRAModule, *, merged: bool = False) -> bool:
    """Whether a module keeps the norms that headroom and bounds rely on."""
    up = module.scaled_up @ module.down if merged else module.scaled_up
    return max(spectral_norm(module.down), row_norm(up)) <= LARGEST_NORM


def exponent_of(norm: float) -> int:
    """The least e with norm ≤ 2^e; 0 for a norm of zero."""
    if norm == 0:
        return 0
    mantissa, exponent = math.frexp(norm)
    return exponent - (mantissa == 0.5)


def normalized_tokens(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each token scaled to ‖x‖₂ ≤ 1 by a power of two, and the exponents: x is 2^exponents[t] times the scaled row.

    Args:
        x: float64, shape (tokens, d_in), finite.

    Returns:
        The scaled rows, and int64 of shape (tokens,); 0 for a row of zeros.
    """
    exponents = token_exponents(x)
    return times_powers(x, -exponents), exponents


def token_exponents(x: NDArray[np.float64]) -> NDArray[np.int64]:
    """The least e of each token with ‖x‖₂ ≤ 2^e: int64, shape (tokens,); 0 for a row of zeros.

    Args:
        x: float64, shape (tokens, d_in), finite.
    """
    quick = quick_exponent(x) if len(x) == 1 else None
    if quick is not None:
        return np.array([quick], dtype=np.int64)
    # In two steps, since the square of a large or small value may overflow or vanish.
    first = np.frexp(np.abs(x).max(axis=1, initial=0.0))[1].astype(np.int64)
    rows = times_powers(x, -first)
    mantissas, second = np.frexp(np.sqrt(np.einsum("ij,ij->i", rows, rows)))
    second -= mantissas == 0.5
    found: NDArray[np.int64] = first + second
    return found


def quick_exponent(x: NDArray[np.float64]) -> int | None:
    """The same of one token, shape (1, d_in), any values: a model that generates has many, and many small calls would
    cost more than the work. None if it takes more than that: for zeros, values that are not finite, or sizes that few
    models have.
    """
    square = float(np.vdot(x, x))
    return exponent_of(math.sqrt(square)) if _LEAST_SQUARE < square < 1 / _LEAST_SQUARE else None


def times_powers(rows: NDArray[np.float64], exponents: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row times its power of two: as ``np.ldexp``, which takes ten times as long."""
    if np.abs(exponents).max(initial=0) < LARGEST_EXPONENT:
        scaled: NDArray[np.float64] = rows * np.ldexp(1.0, exponents)[:, np.newaxis]
        return scaled
    return np.ldexp(rows, exponents[:, np.newaxis])


def spectral_norm(matrix: NDArray[np.float64]) -> float:
    """The largest singular value, from the Gram matrix of the shorter side, never too small by more than 2^-40."""
    largest = float(np.max(np.abs(matrix), initial=0.0))
    if largest == 0:
        return 0.0
    unit = math.frexp(largest)[1]
    scaled = np.ldexp(matrix, -unit)
    gram = scaled @ scaled.T if scaled.shape[0] <= scaled.shape[1] else scaled.T @ scaled
    return math.ldexp(math.sqrt(float(np.linalg.eigvalsh(gram)[-1])) * (1 + 2.0**-40), unit)


def row_norm(matrix: NDArray[np.float64]) -> float:
    """The largest ‖·‖₂ of a row."""
    return max(_row_norms(matrix), default=0.0)


def _row_norms(matrix: NDArray[np.float64]) -> list[float]:
    """‖·‖₂ of each row, without overflow or underflow."""
    largest = np.max(np.abs(matrix), axis=1, initial=0.0)
    units = np.frexp(largest)[1]
    norms = np.ldexp(np.linalg.norm(np.ldexp(matrix, -units[:, np.newaxis]), axis=1), units)
    return [float(norm) for norm in norms]
