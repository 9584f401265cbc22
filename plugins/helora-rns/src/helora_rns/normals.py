"""Normal variates of random words, by Box and Muller's method: the formulas of ``native/sanitize.cpp`` in NumPy.

Logarithm, sine and cosine are polynomials of our own, so that all kernel sets give the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Words = NDArray[np.uint64]

_ROOT_HALF = np.float64(0.5**0.5).view(np.uint64)
_ONE = np.float64(1.0).view(np.uint64)
_MANTISSA = np.uint64((1 << 52) - 1)
_TWELVE = np.uint64(12)

_LOGARITHM = [1.0 / k for k in range(21, 2, -2)]
_SINE = [
    -1 / 1307674368000, 1 / 6227020800, -1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6,
]  # fmt: skip
_COSINE = [
    1 / 20922789888000, -1 / 87178291200, 1 / 479001600, -1 / 3628800, 1 / 40320, -1 / 720, 1 / 24,
]  # fmt: skip


def _polynomial(coefficients: list[float], z: Doubles) -> Doubles:
    total = np.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * z + coefficient
    return total


def _logarithm(x: Doubles) -> Doubles:
    """log x for x in (0, 1]: x is 2^e·m, with m from 1/√2 to √2."""
    bits = x.view(np.uint64) + (_ONE - _ROOT_HALF)
    e = (bits >> np.uint64(52)).astype(np.float64) - 1023.0
    m = ((bits & _MANTISSA) + _ROOT_HALF).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    logarithm: Doubles = e * np.log(2.0) + (s + s) * (_polynomial(_LOGARITHM, z) * z + 1.0)
    return logarithm


def of_words(words: Words) -> Doubles:
    """One variate a word, of an even number of words: first all cosines, then all sines."""
    first, second = words.reshape(2, -1)
    radius = np.sqrt(-2.0 * _logarithm(((first >> _TWELVE).astype(np.float64) + 1.0) * 2.0**-52))
    quarter = second >> np.uint64(62)
    t = (((second << np.uint64(2)) >> _TWELVE).astype(np.float64) * 2.0**-52 - 0.5) * (np.pi / 2)
    z = t * t
    sine = t + t * (z * _polynomial(_SINE, z))
    cosine = 1.0 + z * (z * _polynomial(_COSINE, z) - 0.5)
    odd, sign = quarter & np.uint64(1) == 1, np.where(quarter > 1, -1.0, 1.0)
    cosine, sine = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    out: Doubles = np.concatenate([radius * cosine * sign, radius * sine * sign])
    return out
