"""How large added noise must be to hide what a result's own noise and unread places say about the weights.

Normal noise of covariance Σ hides a shift e, whatever it depends on, to a statistical distance of ‖Σ^(-1/2)·e‖/2, by
Pinsker's inequality. e itself is random, by the encryption's randomness, which the client knows. The distance between
the joint distributions is at most the mean over e, and so at most its value at e's root mean square. So it takes

    σ = 2^(bits − 1) · (root mean square of ‖e‖)

for 2^-bits, with ‖·‖ over all coefficients that are seen, and the mean square bounded for all weights (``error_flow``).
Distances of many results add up. docs/privacy.md lists what e is made of.
"""

from __future__ import annotations

import math

FLOOD_MARGIN_BITS = 0.5
"""A flood is two fifths larger than the model requires, since the noise it is computed from is known to a few per
cent."""


def flood_deviation_bits(norm: float, bits: int) -> int:
    """log2 of the standard deviation per coefficient that hides noise of this norm to a distance of 2^-bits.

    Args:
        norm: Root mean square of ‖e‖₂ over the coefficients that are seen, in integer units.
        bits: Statistical bits.
    """
    return math.ceil(bits - 1 + math.log2(max(norm, 1.0)) + FLOOD_MARGIN_BITS)


def mask_deviation_bits(norm: float, bits: int) -> int:
    """log2 of the standard deviation, per real or imaginary part of a slot, that hides the content of unread slots.

    Args:
        norm: Bound on ‖e‖₂ over all slots, in integer units.
        bits: Statistical bits.
    """
    return math.ceil(bits - 1 + math.log2(max(norm, 1.0)))
