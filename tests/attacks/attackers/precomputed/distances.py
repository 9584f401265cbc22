"""Statistical distances of results, from their formulas, for a module 576:768:16 and the modes that there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from helora_core.params.noise import ERROR_STD

WEIGHT_BITS = 40
"""Of ``down`` and ``up`` together on the grid, where a row of W is as long as 1."""

OUTPUTS = 768
MODULES = 60
TOKENS = 1_000_000


@dataclass(frozen=True)
class Mode:
    """A mode.

    Attributes:
        name: In words.
        ring_degree: N.
        q1_bits: log2 of q₁.
        f: Bits of results that are dropped, as plans choose them; None if a flood hides the noise.
    """

    name: str
    ring_degree: int
    q1_bits: int
    f: int | None

    @property
    def noise_bits(self) -> float:
        """log2 of the root mean square of E = W·e + e_pk·u + e₀ + e₁·s, which is no less than E|E|."""
        own = ERROR_STD * math.sqrt(4.0**WEIGHT_BITS + 2 * self.ring_degree * 2 / 3 + 1)
        return math.log2(own)

    @property
    def width_bits(self) -> float:
        """log2 of the width of what is uniform under E: q₁·2^f, or q₁/2."""
        return self.q1_bits - 1 if self.f is None else self.q1_bits + self.f

    def distance_bits(self, values: int) -> float:
        """log2 of the distance of so many values: distances add up."""
        return self.noise_bits - self.width_bits + math.log2(values)


MODES = (
    Mode("trim, the default", 8192, 84, 37),
    Mode("trim, N = 4096", 4096, 41, 41),
    Mode("exact", 8192, 84, None),
)


def table() -> list[str]:
    """For the page."""
    rows = [
        f"| {mode.name} | mean of abs(E) / {'(q₁·2^f)' if mode.f else '(q₁/2)'} | 2^{mode.noise_bits:.1f} "
        f"| 2^{mode.width_bits:.0f} | 2^{mode.distance_bits(1):.1f} "
        f"| 2^{mode.distance_bits(mode.ring_degree * OUTPUTS):.1f} "
        f"| 2^{mode.distance_bits(TOKENS * MODULES * OUTPUTS):.1f} |"
        for mode in MODES
    ]
    head = (
        "| mode | distance | mean of abs(E), at most | of | a value | a batch of one module | 10⁶ tokens, 60 modules |"
    )
    return [head, "|---|---|---|---|---|---|---|", *rows]
