"""Statistics of attacks, and what chance makes of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DEVIATIONS = 5.0
"""What chance does not make of a statistic but once in two million tries."""


def correlation(left: Array, right: Array) -> float:
    """|Pearson's correlation|; 0 if one of them is constant."""
    left, right = left.ravel(), right.ravel()
    if not left.std() or not right.std():
        return 0.0
    return abs(float(np.corrcoef(left, right)[0, 1]))


def chance(pairs: int) -> float:
    """The correlation that so many independent pairs do not exceed."""
    return DEVIATIONS / math.sqrt(pairs)


def share_equal(guess: Array, truth: Array) -> float:
    """The share of numbers that were guessed exactly."""
    return float(np.mean(guess == truth))


def uniformity(shares: Array) -> float:
    """By how many standard deviations mean or variance of numbers in [0, 1) are off those of uniform ones."""
    mean = abs(float(np.mean(shares)) - 0.5) * math.sqrt(12 * shares.size)
    variance = abs(float(np.mean((shares - 0.5) ** 2)) - 1 / 12) * math.sqrt(180 * shares.size)
    return max(mean, variance)
