"""Drawing: numbers with units, axes with round ticks, marks that differ in shape as well as colour.

Colours are classes (``s0`` … ``s7``), which the page's style sets for light and for dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

COLOURS = 8
"""Classes of colour that there are; a ninth series gets the first again, with another mark."""

_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def number(value: float) -> str:
    """A number for people: whole ones as they are, others to about three significant digits."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.{1 if abs(value) >= 10 else 2}f}"


def scaled(unit: str, largest: float) -> tuple[float, str]:
    """What to divide by, and the unit that is left: bytes become KiB, MiB … as the largest value asks for."""
    if not unit.startswith("bytes"):
        return 1.0, unit
    power = 0 if largest < 1 else min(int(math.log2(largest) // 10), len(_SIZES) - 1)
    return 1024.0**power, unit.replace("bytes", _SIZES[power], 1)


def quantity(value: float, unit: str) -> str:
    """A number with its unit."""
    divisor, name = scaled(unit, abs(value))
    return f"{number(value / divisor)} {name}".rstrip()


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from at most ``low`` to at least ``high``."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(nice for nice in (1, 2, 2.5, 5, 10) if nice * step * about >= (high - low) * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from at most ``low`` to at least ``high``; both are positive."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [nice * 10.0**power for power in powers for nice in (1, 2, 5)]
    first = max((i for i, tick in enumerate(every) if tick <= low), default=0)
    last = min((i for i, tick in enumerate(every) if tick >= high), default=len(every) - 1)
    return every[first : last + 1]


Scale = Callable[[float], float]


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Places ``low`` … ``high`` at ``start`` … ``end``."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Places ``low`` … ``high``, both positive, at ``start`` … ``end`` by their logarithms."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(value))


def text(x: float, y: float, words: str, *, css: str = "", anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def path(points: Sequence[tuple[float, float]], css: str) -> str:
    """A line through points."""
    return f'<path d="M{" L".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{css}"/>'


def rectangle(x: float, y: float, width: float, height: float, css: str, tip: str = "") -> str:
    """A filled rectangle; ``tip`` shows when it is pointed at."""
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" class="{css}">{inner}</rect>'
    )


_MARKS = (
    "M{0},{1}m-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0Z",
    "M{0},{1}m-4,-4h8v8h-8Z",
    "M{0},{1}m0,-5.5l5,9h-10Z",
    "M{0},{1}m0,-5.5l5.5,5.5l-5.5,5.5l-5.5,-5.5Z",
    "M{0},{1}m0,5.5l5,-9h-10Z",
)


def mark(x: float, y: float, series: int, tip: str = "", *, shape: int | None = None, hollow: bool = False) -> str:
    """The mark of a series at a point, with room around it to point at.

    Args:
        x: Where.
        y: Where.
        series: Gives the colour, and the shape if that is not given.
        tip: Shows when it is pointed at.
        shape: Number of the shape.
        hollow: Draw only its outline.
    """
    form = _MARKS[(series if shape is None else shape) % len(_MARKS)].format(f"{x:.1f}", f"{y:.1f}")
    drawn = f'<path d="{form}" class="mark s{series % COLOURS}{" hollow" if hollow else ""}"/>'
    if not tip:
        return drawn
    return f'<g class="point"><circle cx="{x:.1f}" cy="{y:.1f}" r="11"/>{drawn}<title>{escape(tip)}</title></g>'


def cross(x: float, y: float, series: int, tip: str) -> str:
    """The mark of a failure of a series, with room around it to point at."""
    drawn = f'<path d="M{x - 5:.1f},{y - 5:.1f}l10,10m0,-10l-10,10" class="mark cross s{series % COLOURS}"/>'
    return f'<g class="point"><circle cx="{x:.1f}" cy="{y:.1f}" r="11"/>{drawn}<title>{escape(tip)}</title></g>'


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in their order, ``gap`` or more apart, between ``low`` and ``high`` if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    floor = low
    for i in order:
        placed[i] = floor = max(wanted[i], floor)
        floor += gap
    ceiling = high
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling)
        ceiling -= gap
    return placed


def drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A whole drawing, with a title that is read out, but not shown as a tooltip over all of it."""
    return (
        f'<div class="scroll"><svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></div>"
    )
