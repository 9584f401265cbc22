"""Weights and activations that try to break bounds: of any magnitude, structured, concentrated, orthogonal."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule

Matrix = NDArray[np.float64]

KINDS = ("normal", "constant", "alternating", "one entry", "one row", "rank one", "rows unequal", "powers of two")
ACTIVATIONS = (
    "normal",
    "one-hot",
    "alternating",
    "constant",
    "orthogonal to down",
    "along down",
    "massive",
    "mixed",
    "zero",
)


def matrix(kind: str, rows: int, columns: int, rng: np.random.Generator) -> Matrix:
    """A matrix of a kind, of the order of one."""
    normal = rng.normal(size=(rows, columns))
    if kind == "constant":
        return np.full((rows, columns), float(rng.choice([0.7, -1.3])))
    if kind == "alternating":
        return np.tile((-1.0) ** np.arange(columns), (rows, 1)) * 0.9
    if kind == "one entry":
        normal[:] = 0
        normal[rng.integers(rows), rng.integers(columns)] = 1.7
    if kind == "one row":
        normal[np.arange(rows) != rng.integers(rows)] = 0
    if kind == "rank one":
        return np.outer(normal[:, 0], normal[0])
    if kind == "rows unequal":
        return normal * np.exp2(rng.integers(-20, 20, size=(rows, 1)))
    if kind == "powers of two":
        return np.exp2(rng.integers(-6, 3, size=(rows, columns)).astype(float))
    return normal


def activations(kind: str, tokens: int, down: Matrix, rng: np.random.Generator) -> Matrix:
    """x of shape (tokens, d_in), of a kind."""
    width = down.shape[1]
    normal = rng.normal(size=(tokens, width))
    if kind == "zero":
        return np.zeros((tokens, width))
    if kind == "one-hot":
        return np.eye(width)[rng.integers(width, size=tokens)]
    if kind == "alternating":
        return np.tile((-1.0) ** np.arange(width), (tokens, 1))
    if kind == "constant":
        return np.ones((tokens, width))
    if kind == "orthogonal to down" and width > down.shape[0]:
        basis = np.linalg.qr(down.T)[0]
        return normal - (normal @ basis) @ basis.T
    if kind == "along down":
        return down[rng.integers(down.shape[0], size=tokens)] + 0.0
    if kind == "massive":
        normal[:, rng.integers(width)] *= 3000
    if kind == "mixed":
        return normal * 10.0 ** rng.uniform(-8, 8, size=(tokens, 1))
    return normal


@st.composite
def modules(draw: st.DrawFn, *, widest: int = 96) -> LoRAModule:
    """A module of any shape, kind and magnitude."""
    d_in, d_out, rank = (draw(st.integers(1, limit)) for limit in (widest, widest, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    down, up = draw(st.sampled_from(KINDS)), draw(st.sampled_from(KINDS))
    sizes = [10.0 ** draw(st.integers(-8, 8)) for _ in range(2)]
    return LoRAModule("drawn", matrix(down, rank, d_in, rng) * sizes[0], matrix(up, d_out, rank, rng) * sizes[1], 2.0)
