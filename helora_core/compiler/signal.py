"""How large Δ is expected to be, in units where no value can exceed one: what parameters are chosen for.

Errors are bounded for all weights and activations; how many bits of Δ survive depends on Δ. ``expected_delta`` says
how large Δ is where weights and activations are independent of each other and random. Trained adapters have larger
ones (of the bundled one's 60 modules, the median is 2^-2 for 16 tokens, and this says 2^-4.6); an x that is orthogonal
to ``down`` has none, and no parameters help."""

from __future__ import annotations

import math
from statistics import NormalDist

from helora_core.adapter.lora import ModuleShape

_ROUNDED_UP = 2.0**-1.5
"""What exponents that are whole cost, on average: half a bit each of x, ``down`` and ``up``."""


def expected_delta(shape: ModuleShape) -> float:
    """The median of one token's max|Δ| for random weights and activations.

    z has ``rank`` values of about 1/√d_in over the spectral norm, 1 + √(rank/d_in) for rows of norm one (Marchenko and
    Pastur); Δ is normal over the outputs once z is fixed.
    """
    z = 1 / (math.sqrt(shape.d_in) + math.sqrt(shape.rank))
    largest = NormalDist().inv_cdf((1 + 0.5 ** (1 / shape.d_out)) / 2)
    return z * largest * _ROUNDED_UP
