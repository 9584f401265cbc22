"""The canonical embedding, by FFT: it gives coefficients to any library that takes complex slots.

The slots of a polynomial m are its values at ζ^(g^j), ζ = exp(iπ/N), j < N/2, with g = 5, or 3 in SEAL: rotating by one
slot is the automorphism x → x^g. The values at the conjugate roots are the conjugates, since m is real.
``N·ifft(m_k·ζ^k)`` gives m at all odd powers of ζ, of which the slots are picked.
(Cheon, Kim, Kim and Song, ASIACRYPT 2017, §3.2.)
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Coefficients = NDArray[np.float64]
ComplexSlots = NDArray[np.complex128]


@functools.cache
def _slot_positions(ring_degree: int, generator: int) -> NDArray[np.int64]:
    """The index of slot j among the values at ζ^1, ζ^3, ζ^5, …: (g^j mod 2N − 1) / 2."""
    exponents = np.ones(ring_degree // 2, dtype=np.int64)
    for j in range(1, ring_degree // 2):
        exponents[j] = exponents[j - 1] * generator % (2 * ring_degree)
    return (exponents - 1) // 2


@functools.cache
def _twist(ring_degree: int) -> ComplexSlots:
    twist: ComplexSlots = np.exp(1j * np.pi * np.arange(ring_degree) / ring_degree)
    return twist


def coefficients_to_slots(coefficients: Coefficients, ring_degree: int, generator: int = 5) -> ComplexSlots:
    """The N/2 slots (complex128) of the polynomial with these coefficients (float64, at most N, padded with zeros)."""
    padded = np.zeros(ring_degree)
    padded[: coefficients.size] = coefficients
    values = ring_degree * np.fft.ifft(padded * _twist(ring_degree))
    slots: ComplexSlots = values[_slot_positions(ring_degree, generator)]
    return slots


def slots_to_coefficients(slots: ComplexSlots, ring_degree: int, generator: int = 5) -> Coefficients:
    """The N coefficients (float64) of the real polynomial with these slots (complex128, shape (N/2,))."""
    positions = _slot_positions(ring_degree, generator)
    values = np.empty(ring_degree, dtype=np.complex128)
    values[positions] = slots
    values[ring_degree - 1 - positions] = slots.conj()
    coefficients: Coefficients = (np.fft.fft(values) / ring_degree * _twist(ring_degree).conj()).real
    return coefficients


def largest_coefficient(slots: NDArray[np.float64] | ComplexSlots, ring_degree: int, generator: int = 5) -> float:
    """Size of the largest coefficient of the polynomial with these slots (float64 or complex128, padded with zeros).

    This is what must fit the modulus. A slot may be N times as large, and is about √N times as large if random.
    """
    padded = np.zeros(ring_degree // 2, dtype=np.complex128)
    padded[: slots.size] = slots
    return float(np.max(np.abs(slots_to_coefficients(padded, ring_degree, generator))))
