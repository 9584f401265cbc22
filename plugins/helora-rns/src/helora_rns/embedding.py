"""Where slots are among the values of the complex transform.

The slots of a polynomial m of Z[x]/(x^N + 1) are its values at ζ^(5^j), ζ = exp(iπ/N), j < N/2. All these exponents are
1 modulo 4, so that x^(N/2) is i at each of them: m there is the value of the polynomial with N/2 complex coefficients
m_k + i·m_(k + N/2), and one transform modulo x^(N/2) - i gives all. (Cheon, Kim, Kim and Song, ASIACRYPT 2017, §3.2.)

The transform splits x^M - ζ^E into x^(M/2) - ζ^(E/2) and x^(M/2) + ζ^(E/2), from E = N/2 on: node n of the tree has the
power ζ^t(n), where t(1) = N/4, t(2n) = t(n)/2 and t(2n + 1) = t(n)/2 + N/2.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from helora_rns.arrays import aligned_copy

GENERATOR = 5

_FRACTION_BITS = 128


def _exponents(ring_degree: int) -> NDArray[np.int64]:
    """2·t(n) for the N/2 nodes, that nothing is halved away; place 0 is unused."""
    twice = np.array([0, ring_degree // 2], dtype=np.int64)
    while twice.size < ring_degree // 2:
        last = twice[twice.size // 2 :]
        twice = np.concatenate([twice, np.stack([last // 2, last // 2 + ring_degree], axis=1).ravel()])
    return twice


def _cosines(ring_degree: int) -> NDArray[np.float64]:
    """cos(π·k/2N) for k from 0 to N, each the double next to it: from integers of 128 bits behind the point, since the
    last bits of libraries' cosines differ, and clients in browsers have to find the same.
    """
    one = 1 << _FRACTION_BITS
    cosine, sine = 0, one
    for _ in range(ring_degree.bit_length() - 1):
        half = math.isqrt((one + cosine << _FRACTION_BITS) >> 1)
        cosine, sine = half, (sine << _FRACTION_BITS) // (2 * half)
    table, x, y = np.empty(ring_degree + 1), one, 0
    for k in range(ring_degree // 2 + 1):
        table[k], table[ring_degree - k] = x / one, y / one
        x, y = (x * cosine - y * sine) >> _FRACTION_BITS, (x * sine + y * cosine) >> _FRACTION_BITS
    return table


@functools.lru_cache(maxsize=16)
def powers(ring_degree: int) -> NDArray[np.float64]:
    """(2, N/2): cosines and sines of the nodes' powers of ζ; read-only."""
    exponents, cosines = _exponents(ring_degree), _cosines(ring_degree)
    reals = np.where(exponents <= ring_degree, 1.0, -1.0) * cosines[np.minimum(exponents, 2 * ring_degree - exponents)]
    table: NDArray[np.float64] = aligned_copy(np.stack([reals, cosines[np.abs(ring_degree - exponents)]]))
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=16)
def slot_places(ring_degree: int) -> NDArray[np.uint32]:
    """For slot j the place among the transform's values that holds it; read-only."""
    last = _exponents(ring_degree)[ring_degree // 4 :]
    leaves = np.stack([last // 2, last // 2 + ring_degree], axis=1).ravel()
    place_of = np.empty(2 * ring_degree, dtype=np.int64)
    place_of[leaves] = np.arange(ring_degree // 2)
    exponents = np.ones(ring_degree // 2, dtype=np.int64)
    for j in range(1, ring_degree // 2):
        exponents[j] = exponents[j - 1] * GENERATOR % (2 * ring_degree)
    places = place_of[exponents].astype(np.uint32)
    places.flags.writeable = False
    return places


def galois_element(steps: int, ring_degree: int) -> int:
    """The automorphism x to x^element that rotates slots left by ``steps``."""
    return pow(GENERATOR, steps, 2 * ring_degree)
