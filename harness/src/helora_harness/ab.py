"""Compares the times of two commits or two backends, in a way that a drifting machine speed does not affect.

One *spawn* is three fresh processes: the base, the head, and the base once more. Each cell is timed in them in the
order A B A′ A′ B A, again and again: an even drift adds the same to all three. In that order base and base
again follow themselves, but the head never does: it alone would find its caches cold, and look 2 % slower than itself.
So each timing begins with runs that are not timed. A spawn's ratio is the median
over these blocks; spawns differ by memory layout and the like, which no repetition inside one process shows, so the
confidence interval is Student's over the logarithms of the spawns' ratios. With several cells it is widened
(Bonferroni), or among twenty cells of equal code one would be called different.

The second base gives the *A/A floor*: this machine's ratio for identical code, now. A verdict needs the interval
wholly outside or inside ``BAND``; if the floor's own interval leaves it, there is no verdict.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from helora_harness.checkouts import Asked
from helora_harness.rows import Cell

BAND = (0.97, 1.03)
"""Ratios head / base that count as the same time."""

MIN_SPAWNS = 8
BLOCK = ("base", "head", "again", "again", "head", "base")
TARGET_NS = 20_000_000
"""A timing repeats a cell until it takes about this long; shorter ones would measure the clock."""

Verdict = Literal["faster", "slower", "same", "undecided", "n/a"]
Spawn = Callable[[str], Asked]
"""Starts a process for a side: ``base``, ``head`` or ``again``, which is the base once more."""


class Interval(msgspec.Struct, frozen=True):
    """A ratio and its confidence interval."""

    low: float
    ratio: float
    high: float

    def within(self, band: tuple[float, float] = BAND) -> bool:
        """Wholly inside."""
        return band[0] <= self.low and self.high <= band[1]

    def outside(self, band: tuple[float, float] = BAND) -> bool:
        """Wholly outside."""
        return self.high < band[0] or self.low > band[1]

    def __str__(self) -> str:
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one cell.

    Attributes:
        cell: Packing, shape, tokens and the base's backend.
        verdict: The head compared with the base; ``n/a`` if one of them cannot run it.
        time: Ratio head / base; None if n/a.
        floor: Ratio of the base to itself, by the same protocol.
        base_ms: Median time of a run at the base.
        head_ms: Likewise at the head.
        causes: What differs between the plans, or why there is no verdict, in words.
        spawns: Processes per side.
    """

    cell: Cell
    verdict: Verdict
    time: Interval | None
    floor: Interval | None
    base_ms: float | None
    head_ms: float | None
    causes: tuple[str, ...]
    spawns: int


def interval(ratios: Sequence[float], confidence: float) -> Interval:
    """Student's interval of the mean logarithm of ratios, as ratios."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    half = t_quantile((1 + confidence) / 2, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Interval(math.exp(mean - half), math.exp(mean), math.exp(mean + half))


def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's distribution, for p from 0.5: by bisection, integrating with Simpson's rule."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def above_half(t: float, panels: int = 400) -> float:
        width = t / panels
        heights = [(1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(panels + 1)]
        return float(scale * width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2])))

    low, high = 0.0, 1.0
    while above_half(high) < p - 0.5:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above_half(middle) < p - 0.5 else (low, middle)
    return high


def judge(time: Interval, floor: Interval) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and the reason if it is undecided."""
    if not floor.within():
        return "undecided", (f"the same code against itself gave {floor}: this machine is too restless now",)
    if time.within():
        return "same", ()
    if time.outside():
        return ("faster" if time.ratio < 1 else "slower"), ()
    return "undecided", (f"the interval is neither inside nor outside [{BAND[0]}, {BAND[1]}]: more spawns would tell",)


_WORDS = {
    "keyswitches": "key switches",
    "ct_pt": "ct×pt",
    "ring_degree": "ring degree",
    "modulus_bits": "primes",
    "scale_bits": "scales",
    "tokens_per_run": "tokens per run",
    "rotation_keys": "rotation keys",
}


def differences(base: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[str, ...]:
    """Counts and parameters of two answers to ``plan`` that differ, as in ``key switches 19 → 21``."""
    found = []
    for group, skipped in (("counts", ()), ("plan", ("digest",))):
        before, after = base[group], head[group]
        for name in dict.fromkeys([*before, *after]):
            # An operation that a commit does not have was executed zero times.
            old, new = (side.get(name, 0 if group == "counts" else None) for side in (before, after))
            if old != new and name not in skipped:
                found.append(f"{_WORDS.get(name, name.replace('_', ' '))} {_value(old)} → {_value(new)}")
    return tuple(found)


def _value(value: Any) -> str:
    return "+".join(f"{item:g}" for item in value) if isinstance(value, list) else str(value)


class Plan(msgspec.Struct, frozen=True):
    """How much is measured.

    Attributes:
        spawns: Fresh processes per side; at least ``MIN_SPAWNS``.
        blocks: Times that the six timings of a cell are done in each.
        confidence: The confidence for all cells together.
    """

    spawns: int = MIN_SPAWNS
    blocks: int = 5
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.spawns < MIN_SPAWNS:
            raise ValueError(f"an interval over fewer than {MIN_SPAWNS} spawns says little")


def compare(
    spawn: Spawn,
    cells: Sequence[Cell],
    plan: Plan,
    *,
    head_backend: str | None = None,
    on_spawn: Callable[[], object] = lambda: None,
) -> list[Comparison]:
    """Compare base and head on every cell.

    Args:
        spawn: Starts processes.
        cells: What to run; each names the base's backend.
        plan: How much to measure.
        head_backend: The head's backend, if it is another.
        on_spawn: Called when a spawn is done, for progress bars.
    """
    times: list[list[_Times]] = [[] for _ in cells]
    absent: list[tuple[str, ...]] = [() for _ in cells]
    for number in range(plan.spawns):
        # The sides take turns to start first, since the first process may get a better place in memory.
        order = ("base", "head", "again") if number % 2 == 0 else ("again", "head", "base")
        sides: dict[str, Asked] = {}
        try:
            for side in order:
                sides[side] = spawn(side)
            for i, cell in enumerate(cells):
                if not absent[i]:
                    requests = {side: _named(cell, head_backend if side == "head" else None) for side in sides}
                    absent[i] = absent[i] or _cell_times(sides, requests, plan.blocks, times[i])
        finally:
            for worker in sides.values():
                worker.close()
        on_spawn()
    share = 1 - (1 - plan.confidence) / max(1, len(cells))
    return [_judged(cell, found, why, share) for cell, found, why in zip(cells, times, absent, strict=True)]


def _named(cell: Cell, backend: str | None) -> list[Any]:
    return [backend or cell.backend, cell.packing, cell.shape, cell.tokens]


class _Times(msgspec.Struct):
    """One cell in one spawn: the time of a run in each block by side, and the differences between the plans."""

    ns: dict[str, list[float]]
    causes: tuple[str, ...]

    def ratio(self, over: str, under: str) -> float:
        return statistics.median(a / b for a, b in zip(self.ns[over], self.ns[under], strict=True))


def _cell_times(
    sides: Mapping[str, Asked], cells: Mapping[str, list[Any]], blocks: int, into: list[_Times]
) -> tuple[str, ...]:
    """Time one cell in one spawn; returns why it could not be."""
    answers = {side: sides[side].ask(do="run", cell=cells[side]) for side in sides}  # makes keys, and warms up
    failures = tuple(f"{side}: {answers[side]['error']}" for side in ("base", "head") if "error" in answers[side])
    if failures:
        return failures
    first = sides["base"].ask(do="time", cell=cells["base"], repeat=1, warm=1)
    repeat = max(1, math.ceil(TARGET_NS / max(1, first.get("ns", TARGET_NS))))
    ns: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(blocks):
        block: dict[str, float] = dict.fromkeys(sides, 0.0)
        for side in BLOCK:
            answer = sides[side].ask(do="time", cell=cells[side], repeat=repeat, warm=max(1, repeat // 4))
            if "error" in answer:
                return (f"{side}: {answer['error']}",)
            block[side] += answer["ns"] / (2 * repeat)
        for side, value in block.items():
            ns[side].append(value)
    for side in sides:
        sides[side].ask(do="close", cell=cells[side])
    into.append(_Times(ns, differences(answers["base"], answers["head"])))
    return ()


def _judged(cell: Cell, found: list[_Times], why: tuple[str, ...], confidence: float) -> Comparison:
    if why or not found:
        return Comparison(
            cell=cell, verdict="n/a", time=None, floor=None, base_ms=None, head_ms=None, causes=why, spawns=len(found)
        )
    time = interval([each.ratio("head", "base") for each in found], confidence)
    floor = interval([each.ratio("again", "base") for each in found], confidence)
    verdict, doubts = judge(time, floor)
    base, head = (statistics.median(ns for each in found for ns in each.ns[side]) / 1e6 for side in ("base", "head"))
    causes = (*doubts, *(found[-1].causes or ("counts and parameters are the same",)))
    return Comparison(
        cell=cell, verdict=verdict, time=time, floor=floor, base_ms=base, head_ms=head, causes=causes, spawns=len(found)
    )
