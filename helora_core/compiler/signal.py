"""The expected size of Δ, in units in which no value exceeds one. Parameters are chosen for it.

Errors are bounded for all weights and activations; how many bits of Δ survive depends on Δ. ``expected_delta`` says
how large Δ is if weights and activations are independent of each other and random. It says 2^-4.6 for the bundled
adapter's modules; over all 60, the median is 2^-4.1 for 16 tokens and 2^-5.2 for the last one alone, and 2^-3.6 and
2^-4.2 for the adapter bundled before. An x that is orthogonal to ``down`` has a Δ of zero, and no parameters help."""

from __future__ import annotations

import math
from statistics import NormalDist

from helora_core.adapter.lora import ModuleShape

_ROUNDED_UP = 2.0**-1.5
"""The average cost of whole exponents: half a bit each for x, ``down`` and ``up``."""


def expected_delta(shape: ModuleShape) -> float:
    """The median of one token's max|Δ| for random weights and activations.

    z has ``rank`` values of about 1/√d_in over the spectral norm, 1 + √(rank/d_in) for rows of norm one (Marchenko and
    Pastur); Δ is normal over the outputs once z is fixed.
    """
    z = 1 / (math.sqrt(shape.d_in) + math.sqrt(shape.rank))
    largest = NormalDist().inv_cdf((1 + 0.5 ** (1 / shape.d_out)) / 2)
    return z * largest * _ROUNDED_UP
