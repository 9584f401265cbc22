"""Weights of all kinds: usual ones, and those that concentrate what they have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape

Array = NDArray[np.float64]


def _usual(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    return rng.normal(size=(shape.rank, shape.d_in)) / 100, rng.normal(size=(shape.d_out, shape.rank)) / 30


def _heavy_tails(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    return rng.standard_cauchy(size=(shape.rank, shape.d_in)), rng.standard_cauchy(size=(shape.d_out, shape.rank))


def _one_row_of_up(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    down, up = _usual(rng, shape)
    return down, np.where(np.arange(shape.d_out)[:, np.newaxis] == 1, 100 * up, 1e-9 * up)


def _one_entry_of_up(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    down, up = _usual(rng, shape)
    up *= 1e-9
    up[0, 0] = 4.0
    return down, up


def _rank_one(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    down, up = _usual(rng, shape)
    return np.ones((shape.rank, 1)) * down[:1], np.ones((1, shape.rank)) * up[:, :1]


def _all_equal(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    return np.full((shape.rank, shape.d_in), 0.999), np.full((shape.d_out, shape.rank), 0.999)


def _one_hot(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    """Rows of one weight: each row of ``down`` takes a feature, each of ``up`` a row of it, at the largest norms."""
    down, up = np.full((shape.rank, shape.d_in), 1e-9), np.full((shape.d_out, shape.rank), 1e-9)
    down[np.arange(shape.rank), np.arange(shape.rank)] = 0.999
    up[np.arange(shape.d_out), np.arange(shape.d_out) % shape.rank] = 0.999
    return down, up


def _orthogonal(rng: np.random.Generator, shape: ModuleShape) -> tuple[Array, Array]:
    """Orthonormal rows of ``down``, rows of ``up`` of one norm: as much noise as norms allow, spread evenly."""
    down = np.linalg.qr(rng.normal(size=(shape.d_in, shape.rank)))[0].T
    up = rng.normal(size=(shape.d_out, shape.rank))
    return 0.999 * down, 0.999 * up / np.linalg.norm(up, axis=1, keepdims=True)


KINDS: dict[str, Callable[[np.random.Generator, ModuleShape], tuple[Array, Array]]] = {
    "usual": _usual,
    "heavy tails": _heavy_tails,
    "one row of up": _one_row_of_up,
    "one entry of up": _one_entry_of_up,
    "rank one": _rank_one,
    "all equal": _all_equal,
    "one-hot": _one_hot,
    "orthogonal": _orthogonal,
}
"""None has zeros, which a plan leaves out, and shows."""


def module_of(kind: str, shape: ModuleShape, seed: int = 0) -> LoRAModule:
    """A module of a kind."""
    down, up = KINDS[kind](np.random.default_rng(seed), shape)
    return LoRAModule("m", down, up, 1.0)
