"""Chooses tokens: the most probable one, or one drawn from those that have most of the probability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GREEDY = 1e-3
"""Below this temperature the most probable token is taken: logits divided by less overflow."""


class Drawing:
    """Chooses one token after another.

    Args:
        temperature: 0 for the most probable token each time.
        top_p: The share of probability that tokens are drawn from: the fewest tokens that have it.
        seed: The same one draws the same; None for one that is not predictable.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._random = np.random.default_rng(None if seed is None else seed % (1 << 64))

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """A token.

        Args:
            logits: Of all tokens, (vocabulary,).
        """
        if self._temperature < GREEDY:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self._temperature
        shares = np.exp(scaled - scaled.max())
        shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")
        sums = shares[order].cumsum()
        kept = min(int(np.searchsorted(sums, self._top_p)) + 1, len(order))
        return int(order[min(int(np.searchsorted(sums, self._random.random() * sums[kept - 1], "right")), kept - 1)])
