"""How large noise must be to hide what a result's noise and unread places say of the weights.

Normal noise of covariance Σ hides a shift e, whatever it depends on, to a statistical distance of ‖Σ^(-1/2)·e‖/2, by
Pinsker's inequality. e is random itself, by the encryption's randomness, which the client knows; the distance of the
joint distributions is at most the mean over e, hence at most that of e's root mean square. So it takes

    σ = 2^(bits − 1) · (root mean square of ‖e‖)

for 2^-bits, with ‖·‖ over all coefficients that are seen, and the mean square bounded for all weights (``error_flow``).
Distances of many results add up. docs/privacy.md lists what e is made of.
"""

from __future__ import annotations

import math

FLOOD_MARGIN_BITS = 0.5
"""A flood is larger than the model asks by two fifths: the sizes of noise that it stands on are good to a few per
cent."""


def flood_deviation_bits(norm: float, bits: int) -> int:
    """log2 of the standard deviation, a coefficient, that hides noise of this norm to a distance of 2^-bits.

    Args:
        norm: Root mean square of ‖e‖₂ over the coefficients that are seen, in integer units.
        bits: Statistical bits.
    """
    return math.ceil(bits - 1 + math.log2(max(norm, 1.0)) + FLOOD_MARGIN_BITS)


def mask_deviation_bits(norm: float, bits: int) -> int:
    """log2 of the standard deviation, a real or imaginary part of a slot, that hides what unread slots hold.

    Args:
        norm: Bound on ‖e‖₂ over all slots, in integer units.
        bits: Statistical bits.
    """
    return math.ceil(bits - 1 + math.log2(max(norm, 1.0)))
