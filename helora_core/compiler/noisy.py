"""The errors of one value, and those of sums; ``helora_core.compiler.error_flow`` has the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Source(Enum):
    """Where noise comes from; the value is its row in a table of variances."""

    ENCRYPTION = 0
    INPUT_ROUNDING = 1
    KEY_SWITCHING = 2
    RESCALING = 3
    FIRST_ROUND = 4
    FLOODING = 5
    DROPPED_BITS = 6
    DROPPED_BITS_TIMES_SECRET = 7

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.name.lower().replace("_", " ")


NORMAL = frozenset({Source.FLOODING, Source.DROPPED_BITS})
"""Sources whose noise is normal: drawn, or a sum over all coefficients. The secret multiplies the noise of others."""


@dataclass(frozen=True, eq=False)
class Noisy:
    """The errors of one value, in its own units (integers divided by the scale).

    Attributes:
        stage: Number of products so far.
        terms: Terms of a row that the last product has added up so far.
        variances: Variances of the noise, by source, in any place, without the spikes.
        spikes: Additional variance in each slot, from key switches; None if there were none.
        down_rounding, up_rounding: Σ δ² of the rows of weights: squares of the largest errors by rounding.
        drift: The largest error by nominal scales.
    """

    stage: int = 0
    terms: float = 0.0
    variances: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(Source)))
    spikes: NDArray[np.float64] | None = None
    down_rounding: float = 0.0
    up_rounding: float = 0.0
    drift: float = 0.0

    @property
    def variance(self) -> float:
        """Variance of the noise in the worst place."""
        return float(self.variances.sum()) + self.spike

    @property
    def spike(self) -> float:
        """The largest spike."""
        return 0.0 if self.spikes is None else float(self.spikes.max())

    def plus(self, source: Source, variance: float) -> Noisy:
        """The same with additional, independent noise."""
        more = self.variances.copy()
        more[source.value] += variance
        return replace(self, variances=more)

    def flattened(self) -> Noisy:
        """The same, with noise everywhere as in the worst place."""
        if self.spikes is None:
            return self
        return replace(self.plus(Source.KEY_SWITCHING, self.spike), spikes=None)


def summed(operands: Iterable[tuple[Noisy, int]]) -> Noisy:
    """The sum of values with independent noise, given with how often each is a term."""
    total = Noisy()
    for operand, count in operands:
        spikes = total.spikes
        if operand.spikes is not None:
            spikes = count * operand.spikes if spikes is None else spikes + count * operand.spikes
        total = Noisy(
            stage=max(total.stage, operand.stage),
            terms=total.terms + count * operand.terms,
            variances=total.variances + count * operand.variances,
            spikes=spikes,
            down_rounding=total.down_rounding + count * operand.down_rounding,
            up_rounding=total.up_rounding + count * operand.up_rounding,
            drift=max(total.drift, operand.drift),
        )
    return total


def doubled(operand: Noisy) -> Noisy:
    """A value added to itself."""
    return replace(
        operand,
        variances=4 * operand.variances,
        spikes=None if operand.spikes is None else 4 * operand.spikes,
        down_rounding=4 * operand.down_rounding,
        up_rounding=4 * operand.up_rounding,
        drift=2 * operand.drift,
    )
