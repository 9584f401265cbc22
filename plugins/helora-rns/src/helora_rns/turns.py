"""Two works timed in turns, A B B A, in one process, until the median of their ratios is steady.

What else the machine does meets both alike, so ratios hold where times do not. Time is the process's CPU time, of all
its threads: waiting for other processes costs nothing, and what a thread of ours does beside counts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]

STEADY = 0.03
"""Half the width of the median's 95 % interval, as a part of it, at which it is steady."""

Ready = Callable[[int], object]
"""What has to be done ahead of so many calls of a work, untimed."""

MOST_READY = 16
"""Calls at once of a work that something is made ready for."""

SHORTEST = 20e-3
"""Seconds that a work is repeated for, to be timed at all."""


@dataclass(frozen=True)
class Turns:
    """What came of it: medians in seconds, and how many times longer the second takes, with the range over rounds."""

    first: float
    second: float
    ratio: float
    least: float
    most: float
    rounds: int


def seconds_of(work: Work, repeats: int = 1) -> float:
    """CPU seconds a call."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def repeats_of(work: Work, ready: Ready | None = None) -> int:
    """Calls that take long enough to be timed, after one to warm up."""
    work()
    many = max(1, math.ceil(SHORTEST / max(_timed(work, 1, ready), 1e-7)))
    return min(many, MOST_READY) if ready else many


def _timed(work: Work, repeats: int, ready: Ready | None) -> float:
    if ready:
        ready(repeats)
    return seconds_of(work, repeats)


def unsteadiness(values: list[float]) -> float:
    """Half the width of the median's 95 % interval over the median: of order statistics, so of any distribution."""
    ordered, n = sorted(values), len(values)
    below = math.floor(n / 2 - 0.98 * math.sqrt(n))
    if below < 0:
        return math.inf
    return (ordered[n - 1 - below] - ordered[below]) / 2 / statistics.median(ordered)


def compared(
    first: Work, second: Work, *, least: int = 7, most: int = 40, seconds: float = 30.0, ready: Ready | None = None
) -> Turns:
    """Time both, in rounds of A B B A.

    Args:
        first: Ours.
        second: The peer's.
        least: Rounds to do in any case.
        most: Rounds after which to stop, steady or not.
        seconds: Likewise, of wall time; one round is always done.
        ready: Called before the first is timed, and not timed itself: for what idle time would do.
    """
    many = repeats_of(first, ready), repeats_of(second)
    rounds: list[tuple[float, float]] = []
    start = time.monotonic()
    while len(rounds) < most:
        a, b = _timed(first, many[0], ready), seconds_of(second, many[1])
        b = (b + seconds_of(second, many[1])) / 2
        a = (a + _timed(first, many[0], ready)) / 2
        rounds.append((a, b))
        if len(rounds) >= least and unsteadiness([y / x for x, y in rounds]) <= STEADY:
            break
        if time.monotonic() - start > seconds:
            break
    ratios = [b / a for a, b in rounds]
    ours, theirs = (statistics.median(each) for each in zip(*rounds, strict=True))
    return Turns(ours, theirs, statistics.median(ratios), min(ratios), max(ratios), len(rounds))


def alone(work: Work, *, least: int = 7, most: int = 40, seconds: float = 30.0, ready: Ready | None = None) -> Turns:
    """One work by itself: its seconds are ``ratio``, with their range."""
    many, start = repeats_of(work, ready), time.monotonic()
    times: list[float] = []
    while len(times) < most:
        times.append(_timed(work, many, ready))
        if len(times) >= least and unsteadiness(times) <= STEADY:
            break
        if time.monotonic() - start > seconds:
            break
    median = statistics.median(times)
    return Turns(median, math.nan, median, min(times), max(times), len(times))
