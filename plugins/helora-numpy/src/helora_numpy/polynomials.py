"""The two forms of an emulated polynomial, and conversions between them.

Most are complex slots, in doubles. Polynomials encrypted or encoded as integers are exact instead, held modulo each
prime of their level and transformed, as in a real library: programs mask them on purpose, and they wrap around.

Either form may have an axis of runs, to compute many at once: slots of shape (runs, N/2), residues of shape
(primes, runs, N).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from helora_core.backend import ntt, residues
from helora_core.backend.embedding import ComplexSlots, coefficients_to_slots, slots_to_coefficients
from helora_core.backend.ntt import Residues
from helora_core.backend.residues import Integers
from helora_core.params.ckks import CKKSParams

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Polynomial: TypeAlias = "ComplexSlots | Residues"
"""complex128, shape ([runs,] N/2): values over the scale; or transformed residues, uint64, (primes, [runs,] N)."""

_SINGLE = 2
"""Number of axes of the residues of one polynomial."""


def is_exact(polynomial: Polynomial) -> TypeIs[Residues]:
    """Whether the polynomial is held as residues."""
    return polynomial.dtype == np.uint64


def transformed(coefficients: Residues, params: CKKSParams) -> Residues:
    """Residues of coefficients in the transformed form that this plugin keeps."""
    return np.stack([ntt.forward(row, p) for row, p in zip(coefficients, params.data_primes, strict=False)])


def coefficients(polynomial: Residues, params: CKKSParams) -> Residues:
    """Undoes ``transformed``."""
    return np.stack([ntt.inverse(row, p) for row, p in zip(polynomial, params.data_primes, strict=False)])


def exact(polynomial: Polynomial, level: int, scale: float, params: CKKSParams) -> Residues:
    """The same polynomial as residues; slots are rounded to integers."""
    if is_exact(polynomial):
        return polynomial
    if polynomial.ndim > 1:
        return np.stack([exact(row, level, scale, params) for row in polynomial], axis=1)
    real = slots_to_coefficients(polynomial, params.ring_degree)
    primes = params.data_primes[: level + 1]
    return transformed(Integers.of_values(real, scale).residues(primes), params)


def slots(polynomial: Polynomial, scale: float, params: CKKSParams) -> ComplexSlots:
    """The same polynomial as slots; residues stand for the integers closest to zero."""
    if not is_exact(polynomial):
        return polynomial
    if polynomial.ndim > _SINGLE:
        return np.stack([slots(polynomial[:, run], scale, params) for run in range(polynomial.shape[1])])
    primes = params.data_primes[: len(polynomial)]
    return coefficients_to_slots(
        residues.values_of(coefficients(polynomial, params), primes, scale), params.ring_degree
    )


def with_noise(
    polynomial: Polynomial, std: float | NDArray[np.float64], scale: float, params: CKKSParams, rng: np.random.Generator
) -> Polynomial:
    """Add noise of ``std / scale`` to the real and imaginary part of each slot, as integers if the form is exact."""
    if is_exact(polynomial):
        level = len(polynomial) - 1
        each = float(np.max(std)) / math.sqrt(params.ring_degree / 2)
        errors = np.rint(rng.normal(scale=each, size=polynomial[:1].size)).astype(np.int64)[np.newaxis]
        rows = Integers(errors).residues(params.data_primes[: level + 1]).reshape(polynomial.shape)
        return add(polynomial, transformed(rows, params), params)
    parts: ComplexSlots = rng.normal(size=2 * polynomial.size).view(np.complex128).reshape(polynomial.shape)
    return polynomial + parts * (std / scale)


def add(left: Residues, right: Residues, params: CKKSParams) -> Residues:
    """The sum modulo each prime."""
    rows = []
    for a, b, prime in zip(left, right, params.data_primes, strict=False):
        total = a + b
        rows.append(np.minimum(total, total - np.uint64(prime)))
    return np.stack(rows)


def multiply(left: Residues, right: Residues, params: CKKSParams) -> Residues:
    """The product modulo x^N + 1 and each prime."""
    return np.stack([ntt.product(a, b, p) for a, b, p in zip(left, right, params.data_primes, strict=False)])


def divide_by_last(polynomial: Residues, params: CKKSParams) -> Residues:
    """Divide by the last prime of the level and round, modulo the other primes."""
    *others, last = params.data_primes[: len(polynomial)]
    rows = coefficients(polynomial, params)
    half = last // 2
    # Centred, so that the division rounds to the nearest rather than down.
    remainder = (rows[-1] + np.uint64(half)) % np.uint64(last)
    divided = []
    for row, prime in zip(rows[:-1], others, strict=True):
        p = np.uint64(prime)
        difference = (row + np.uint64(half % prime)) % p + (p - remainder % p)
        divided.append(ntt.times(difference, pow(last, -1, prime), prime))
    return transformed(np.stack(divided), params)


def stacked(polynomials: Sequence[Polynomial]) -> Polynomial:
    """Stack polynomials of the same form along an axis of runs; a single one stays unchanged."""
    if len(polynomials) == 1:
        return polynomials[0]
    together: Polynomial = np.stack(polynomials, axis=1 if is_exact(polynomials[0]) else 0)  # type: ignore[assignment]
    return together


def unstacked(polynomial: Polynomial, runs: int) -> list[Polynomial]:
    """Undoes ``stacked``."""
    if runs == 1:
        return [polynomial]
    return list(np.moveaxis(polynomial, 1, 0) if is_exact(polynomial) else polynomial)


def rounded(values: ComplexSlots, scale: float, ring_degree: int) -> ComplexSlots:
    """The slots of the polynomial whose coefficients are the integers closest to those of ``values`` at the scale."""
    real = slots_to_coefficients(values, ring_degree)
    return coefficients_to_slots(np.rint(real * scale) / scale, ring_degree)
