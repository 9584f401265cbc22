"""Sums of ciphertexts times numbers: many of them over the same ciphertexts are one product of matrices.

A product with a number is the same in every domain, of values and of coefficients; so nothing is transformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helora_rns import modular
from helora_rns.kernels import Basis, Kernels
from helora_rns.modular import Residues

Integers = NDArray[np.int64]

_STEP = 50


@dataclass(frozen=True, eq=False)
class Weights:
    """A matrix of integers modulo the primes that it was loaded for.

    Attributes:
        limbs: For each prime the integers of least size, (rows, terms); one array for all primes if they are short.
        basis: The primes.
    """

    limbs: tuple[Integers, ...]
    basis: Basis


def load(matrix: NDArray[np.int64] | NDArray[np.float64], kernels: Kernels, basis: Basis) -> Weights:
    """Prepare a matrix, once for all ciphertexts.

    Args:
        matrix: (rows, terms), integers below 2^100 in size, in doubles if they may be beyond 2^63.
        kernels: Of the ciphertexts' ring.
        basis: The primes of the ciphertexts.
    """
    moduli = [kernels.primes[i] for i in basis]
    largest = int(np.max(np.abs(matrix), initial=0))
    if largest <= min(moduli) // 2:
        return Weights((np.ascontiguousarray(matrix, dtype=np.int64),) * len(basis), basis)
    return Weights(tuple(_centred(matrix, q) for q in moduli), basis)


def _centred(matrix: NDArray[np.int64] | NDArray[np.float64], prime: int) -> Integers:
    q = np.array(prime, dtype=np.uint64)
    if matrix.dtype == np.int64:
        return modular.centred(modular.of_integers(matrix.astype(np.int64), q), q)
    # Both parts are exact: a double has 53 bits.
    upper = np.trunc(matrix * 2.0**-_STEP)
    lower = matrix - upper * 2.0**_STEP
    power = np.array(pow(2, _STEP, prime), dtype=np.uint64)
    top = modular.multiply(modular.of_integers(upper.astype(np.int64), q), power, q)
    return modular.centred(modular.add(top, modular.of_integers(lower.astype(np.int64), q), q), q)


def gemm(
    kernels: Kernels,
    weights: Weights,
    ciphertexts: Sequence[Residues],
    out: Sequence[Residues] | None = None,
    *,
    add: bool = False,
) -> list[Residues]:
    """Row i is Σ weights[i, k] · ciphertexts[k].

    Args:
        kernels: Of the ring.
        weights: As ``load`` gives them.
        ciphertexts: As many as the weights have columns, each (2, limbs, N) modulo the primes of the weights.
        out: Where to put the results, if not into new arrays; none of the ciphertexts.
        add: Whether to add them to what is there.
    """
    return kernels.gemm(weights.limbs, ciphertexts, weights.basis, out, add=add)
