"""What a client does with SEAL's polynomials, of which it sees those that it sent and those that came back.

SEAL keeps ciphertexts of CKKS in NTT form: a product with a plaintext is one product modulo a prime for each residue,
and so is the division that undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.backend import ntt, residues
from helora_core.backend.ntt import Residues


def polynomial(ciphertext: Any, which: int, primes: Sequence[int]) -> Residues:
    """c₀ or c₁ of a ciphertext in NTT form: uint64, shape (primes, N)."""
    array = ciphertext.data.dyn_array()
    words = np.fromiter(map(array.at, range(array.size())), dtype=np.uint64, count=array.size())
    return words.reshape(array.size() // (len(primes) * ciphertext.data.poly_modulus_degree()), len(primes), -1)[which]


def difference(left: Residues, right: Residues, primes: Sequence[int]) -> Residues:
    """left − right."""
    modulus = np.array(primes, dtype=np.uint64)[:, np.newaxis]
    return (left + (modulus - right)) % modulus


def quotient(over: Residues, under: Residues, primes: Sequence[int]) -> Residues:
    """What ``under`` was multiplied by, in NTT form, if ``over`` is a product with it; else noise modulo the primes."""
    return np.stack([ntt.product(a, _inverse(b, p), p) for a, b, p in zip(over, under, primes, strict=True)])


def _inverse(values: Residues, prime: int) -> Residues:
    """By Fermat's little theorem; 0 for 0."""
    power = np.ones_like(values)
    for bit in bin(prime - 2)[2:]:
        power = ntt.product(power, power, prime)
        if bit == "1":
            power = ntt.product(power, values, prime)
    return power


def transformed(coefficients: Residues, primes: Sequence[int]) -> Residues:
    """The NTT form of a polynomial."""
    return np.stack([ntt.forward(row, prime) for row, prime in zip(coefficients, primes, strict=True)])


def coefficients_of(values: Residues, primes: Sequence[int]) -> NDArray[np.float64]:
    """The coefficients of least size of a polynomial in NTT form."""
    rows = np.stack([ntt.inverse(row, prime) for row, prime in zip(values, primes, strict=True)])
    return residues.values_of(rows, primes, 1.0)
