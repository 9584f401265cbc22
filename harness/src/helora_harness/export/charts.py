"""The report's four charts, each a drawing made of plain values."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from helora_harness.export.svg import (
    COLOURS,
    cross,
    drawing,
    line,
    linear,
    log_ticks,
    logarithmic,
    mark,
    number,
    path,
    quantity,
    rectangle,
    scaled,
    spread,
    text,
    ticks,
)

WIDTH = 920.0
_LABEL_PX = 6.4
"""Approximate width of a letter, since the font is not known."""


class HistoryPoint(msgspec.Struct, frozen=True):
    """A value at a commit.

    Attributes:
        at: Number of the commit on the axis.
        value: Of the metric; None if the cell failed there.
        tip: Text that is shown when it is pointed at.
        broken: It must not be compared with the point before.
    """

    at: int
    value: float | None
    tip: str
    broken: bool = False


class Series(msgspec.Struct, frozen=True):
    """A line of the history. ``colour`` is its number in the whole report."""

    label: str
    colour: int
    points: tuple[HistoryPoint, ...]


def history(title: str, unit: str, commits: Sequence[tuple[str, str]], series: Sequence[Series], better: str) -> str:
    """Lines over commits, from zero up, named at their ends; dashed into a point that is not comparable, and a cross
    on the axis where a cell failed.

    Args:
        title: Read out.
        unit: Of the values.
        commits: Short hash and date of each, oldest first.
        series: In any order.
        better: ``lower``, ``higher`` or nothing known.
    """
    height, left, top, bottom = 380.0, 66.0, 34.0, 328.0
    right = WIDTH - 24 - _LABEL_PX * max(len(one.label) for one in series)
    largest = max(point.value for one in series for point in one.points if point.value is not None)
    divisor, name = scaled(unit, largest)
    y_ticks = ticks(0, largest / divisor)
    y = linear(y_ticks[0], y_ticks[-1], bottom, top)
    x = linear(-0.5, len(commits) - 0.5, left, right)
    parts = [text(left - 54, 16, f"{name or 'count'}{f', {better} is better' if better else ''}", css="axis")]
    for tick in y_ticks:
        parts += [line(left, y(tick), right, y(tick), "grid"), text(left - 8, y(tick) + 4, number(tick), anchor="end")]
    every = max(1, -(-len(commits) // 8))
    for at in range(len(commits) - 1, -1, -every):
        commit, date = commits[at]
        parts += [line(x(at), bottom, x(at), bottom + 5, "grid")]
        parts += [text(x(at), bottom + 20, commit, css="hash", anchor="middle")]
        parts += [text(x(at), bottom + 36, date, css="faint", anchor="middle")]
    ends = []
    for aside, one in enumerate(series):
        css = f"line s{one.colour % COLOURS}"
        places: list[tuple[float, float]] = []
        marks = []
        for point, dull in zip(one.points, _plateaus(one.points), strict=True):
            if point.value is None:
                place = x(point.at) + 13 * (aside - (len(series) - 1) / 2)
                marks.append(cross(place, bottom, one.colour, point.tip))
                continue
            here = (x(point.at), y(point.value / divisor))
            if not dull:
                marks.append(mark(*here, one.colour, point.tip, hollow=point.broken))
            if point.broken:
                parts += [path(places, css), path([places[-1], here], f"{css} broken")]
                places = []
            places.append(here)
        parts += [path(places, css), *marks]
        ends.append(places[-1])
    for one, label_y in zip(series, spread([py for _, py in ends], 16, top, bottom), strict=True):
        parts.append(text(right + 12, label_y + 4, one.label, css=f"name s{one.colour % COLOURS}"))
    return drawing(WIDTH, height, title, parts)


def _plateaus(points: Sequence[HistoryPoint]) -> list[bool]:
    """Which points need no mark: those with the value of both neighbours, come about in the same way."""
    dull = [False] * len(points)
    for i in range(1, len(points) - 1):
        same = points[i - 1].value == points[i].value == points[i + 1].value
        dull[i] = same and points[i].value is not None and not points[i].broken and not points[i + 1].broken
    return dull


class Bar(msgspec.Struct, frozen=True):
    """One horizontal bar: its label and its parts, each a value and what to say of it."""

    label: str
    parts: tuple[tuple[float, str], ...]


def phases(title: str, unit: str, names: Sequence[str], bars: Sequence[Bar]) -> str:
    """Stacked bars, each with its sum at its end, under a legend of the parts' names."""
    left = 24 + _LABEL_PX * max(len(bar.label) for bar in bars)
    top, step = 40.0, 28.0
    height = top + step * len(bars) + 40
    x_ticks = ticks(0, max(sum(value for value, _ in bar.parts) for bar in bars))
    x = linear(0, x_ticks[-1], left, WIDTH - 90)
    parts, at = [], left
    for number_of, name in enumerate(names):
        parts += [rectangle(at, 8, 12, 12, f"p{number_of}"), text(at + 18, 18, name)]
        at += 40 + _LABEL_PX * len(name)
    parts.append(text(at, 18, unit, css="axis"))
    for tick in x_ticks:
        parts += [line(x(tick), top - 6, x(tick), height - 34, "grid")]
        parts += [text(x(tick), height - 18, number(tick), anchor="middle")]
    for i, bar in enumerate(bars):
        y, start = top + i * step, x(0)
        parts.append(text(left - 10, y + 14, bar.label, anchor="end"))
        for j, (value, tip) in enumerate(bar.parts):
            parts.append(rectangle(start, y, x(value) - x(0), 20, f"p{j}", tip))
            start += x(value) - x(0)
        parts.append(text(start + 8, y + 14, number(sum(value for value, _ in bar.parts)), css="value"))
    return drawing(WIDTH, height, title, parts)


class Spot(msgspec.Struct, frozen=True):
    """A point of the precision chart.

    Attributes:
        label: Of backend and packing.
        bits: Precision.
        ms: Time per token.
        colour: Of its packing.
        shape: Of its backend's mark.
        tip: What to say when it is pointed at.
        counts: It may be on the frontier; an emulation may not.
    """

    label: str
    bits: float
    ms: float
    colour: int
    shape: int
    tip: str
    counts: bool = True


def frontier(spots: Sequence[Spot]) -> list[Spot]:
    """The spots that no other beats in both precision and time, the fastest first."""
    best: list[Spot] = []
    for spot in sorted((spot for spot in spots if spot.counts), key=lambda spot: (spot.ms, -spot.bits)):
        if not best or spot.bits > best[-1].bits:
            best.append(spot)
    return best


def pareto(title: str, spots: Sequence[Spot]) -> str:
    """Precision against time: up is slower, right is more precise, and a line joins what nothing beats in both."""
    height, left, right, top, bottom = 400.0, 66.0, WIDTH - 30, 34.0, 346.0
    x_ticks = ticks(min(spot.bits for spot in spots) - 0.5, max(spot.bits for spot in spots) + 0.5, 7)
    low, high = min(spot.ms for spot in spots), max(spot.ms for spot in spots)
    wide = low > 0 and high / low > 10
    y_ticks = log_ticks(low, high * 1.05) if wide else ticks(0, high * 1.05)
    y = (logarithmic if wide else linear)(y_ticks[0], y_ticks[-1], bottom, top)
    x = linear(x_ticks[0], x_ticks[-1], left, right)
    parts = [text(left - 54, 16, f"ms/token, lower is better{', logarithmic' if wide else ''}", css="axis")]
    for tick in y_ticks:
        parts += [line(left, y(tick), right, y(tick), "grid"), text(left - 8, y(tick) + 4, number(tick), anchor="end")]
    for tick in x_ticks:
        parts += [line(x(tick), top, x(tick), bottom, "grid")]
        parts += [text(x(tick), bottom + 18, number(tick), anchor="middle")]
    parts.append(
        text((left + right) / 2, bottom + 40, "bits of precision, higher is better", css="axis", anchor="middle")
    )
    best = frontier(spots)
    steps: list[tuple[float, float]] = []
    for spot in best:
        steps += [(x(spot.bits), steps[-1][1])] if steps else []
        steps.append((x(spot.bits), y(spot.ms)))
    if len(steps) > 1:
        parts.append(path(steps, "frontier"))
    for spot in spots:
        parts.append(mark(x(spot.bits), y(spot.ms), spot.colour, spot.tip, shape=spot.shape, hollow=not spot.counts))
    for i, spot in enumerate(best):  # the first below, where no line goes; the others above
        past = x(spot.bits) + 14 + _LABEL_PX * len(spot.label) > right
        place, beside = x(spot.bits) + (-10 if past else 10), y(spot.ms) + (-10 if i else 18)
        parts.append(text(place, beside, spot.label, css="value", anchor="end" if past else "start"))
    return drawing(WIDTH, height, title, parts)


class Residual(msgspec.Struct, frozen=True):
    """How far a measured time is from the predicted one: 0.1 is 10 % slower than predicted."""

    label: str
    share: float
    tip: str


def residuals(title: str, bars: Sequence[Residual], tolerance: float) -> str:
    """Bars from the predicted time to the left (faster) and right (slower), over a band of what is tolerated."""
    left = 24 + _LABEL_PX * max(len(bar.label) for bar in bars)
    top, step = 34.0, 28.0
    height = top + step * len(bars) + 40
    reach = max(tolerance * 1.5, *(abs(bar.share) for bar in bars))
    x_ticks = ticks(-reach, reach, 6)
    x = linear(x_ticks[0], x_ticks[-1], left, WIDTH - 70)
    band = rectangle(x(-tolerance), top - 8, x(tolerance) - x(-tolerance), step * len(bars) + 8, "band")
    parts = [band, text(x(0) - 10, 16, "← faster than predicted", css="axis", anchor="end")]
    parts.append(text(x(0) + 10, 16, "slower →", css="axis"))
    for tick in x_ticks:
        parts += [line(x(tick), top - 8, x(tick), height - 34, "grid")]
        parts += [text(x(tick), height - 18, f"{100 * tick:+.0f} %" if tick else "0 %", anchor="middle")]
    for i, bar in enumerate(bars):
        y, start, end = top + i * step, *sorted((x(0), x(bar.share)))
        parts.append(text(left - 10, y + 14, bar.label, anchor="end"))
        parts.append(
            rectangle(start, y, max(end - start, 1), 20, "over" if abs(bar.share) > tolerance else "p1", bar.tip)
        )
        past = bar.share >= 0
        parts.append(text(end + 6 if past else start - 6, y + 14, f"{100 * bar.share:+.1f} %", css="value",
                          anchor="start" if past else "end"))  # fmt: skip
    parts.append(line(x(0), top - 8, x(0), height - 34, "zero"))
    return drawing(WIDTH, height, title, parts)


def tip_of(label: str, value: float, unit: str, *lines: str) -> str:
    """What to say of a value: name and quantity, then a line for each thing worth knowing."""
    return "\n".join([f"{label}: {quantity(value, unit)}", *(words for words in lines if words)])
