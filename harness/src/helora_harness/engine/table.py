"""Measures the bars that are asked for, and prints them: a table of 80 columns, or JSON."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import msgspec

from helora_core.cli.output import print_json, progress
from helora_core.errors import HeloraError
from helora_core.installing import install_line
from helora_harness.engine.bars import BARS, GROUPS, Bar, Figure, Sense, chosen, completed, held, verdict
from helora_harness.engine.operations import NotHere, Pace
from helora_harness.machine import machine_facts

SCHEMA = 1

QUICK: Pace = {"least": 3, "most": 5, "seconds": 3.0}
USUAL: Pace = {"least": 9, "most": 60, "seconds": 45.0}

_AGAINST_SEAL = ("operations", "sanitize", "rank-bsgs", "cheetah", "adapter")
"""Groups whose peer is SEAL, through TenSEAL."""

Measure = Callable[[], Iterator[Figure]]


def measures(pace: Pace, *, quick: bool) -> dict[str, Measure]:
    """How each group is measured."""
    from helora_harness.engine import ahead, operations, plans

    return {
        "operations": lambda: operations.operations(pace),
        "sanitize": lambda: operations.sanitizing(pace),
        "rank-bsgs": lambda: plans.rank_bsgs(pace, quick=quick),
        "cheetah": lambda: plans.cheetah(pace, quick=quick),
        "two-round": lambda: plans.two_round(pace, quick=quick),
        "adapter": lambda: plans.bundled(pace, quick=quick),
        "cpmm": lambda: plans.cpmm(pace, quick=quick),
        "bytes": lambda: plans.bytes_of(pace, quick=quick),
        "ahead": lambda: ahead.filling(pace, quick=quick),
        "online": lambda: ahead.online(pace, quick=quick),
        "online-adapter": lambda: ahead.bundled(pace, quick=quick),
        "ahead-best": lambda: ahead.against_best(pace, quick=quick),
        "ntt": lambda: operations.transforms(pace),
        "vfhe": lambda: operations.vfhe(pace),
    }


def measured(bars: Sequence[Bar], measure: dict[str, Measure], step: Callable[[int], object]) -> list[Figure]:
    """A figure for each bar, in order; one that could not be taken says why, and the others go on."""
    figures: list[Figure] = []
    for group in GROUPS:
        wanted = [bar for bar in bars if bar.group == group]
        if not wanted:
            continue
        found, reason = [], "the measurement gave no figure for it"
        try:
            _require_peer(group)
            for figure in measure[group]():
                found.append(figure)
        except (HeloraError, NotHere, ImportError, MemoryError) as error:
            named = isinstance(error, (HeloraError, NotHere))
            reason = str(error) if named else f"{type(error).__name__}: {error}"
        figures += completed(wanted, found, reason)
        step(len(wanted))
    return figures


def _require_peer(group: str) -> None:
    if group in _AGAINST_SEAL and importlib.util.find_spec("tenseal") is None:
        raise NotHere(f"TenSEAL is not installed: {install_line('tenseal')}")


def document(bars: Sequence[Bar], figures: Sequence[Figure], kernels: str, *, quick: bool) -> dict[str, Any]:
    """All of it as data."""
    rows = [
        {
            **msgspec.to_builtins(bar),
            "bar": bar.of(kernels),
            "figure": {name: value for name, value in msgspec.to_builtins(figure).items() if name != "bar"},
            "held": held(bar, figure, kernels),
        }
        for bar, figure in zip(bars, figures, strict=True)
    ]
    return {"schema": SCHEMA, "kernels": kernels, "quick": quick, **machine_facts(), "rows": rows}


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _bars(bar: Bar) -> str:
    sign = ">=" if bar.sense is Sense.AT_LEAST else "<="
    both = " / ".join(_short(limit) for limit in (bar.avx512, bar.avx2))
    return "no bar" if both == "- / -" else f"{sign} {both}"


def lines(bars: Sequence[Bar], figures: Sequence[Figure], kernels: str) -> Iterator[str]:
    """The table: a line a bar, and under it what else there is to know of it."""
    yield f"kernels {kernels}; bars for AVX-512 IFMA / AVX2; ratios: times faster than the peer"
    yield f"{'work':<32}{'figure':>8} {'range':<13}{'bars':<15}verdict"
    for bar, figure in zip(bars, figures, strict=True):
        span = "" if figure.least is None else f"{_short(figure.least)}-{_short(figure.most)}"
        label, *rest = _wrapped(bar.work + (f" ({bar.unit})" if bar.unit != "x" else ""), 31)
        yield f"{label:<32}{_short(figure.value):>8} {span:<13}{_bars(bar):<15}{verdict(bar, figure, kernels)}".rstrip()
        yield from (f"  {line}" for line in rest)
        yield from (f"    {line}" for line in _wrapped(_note(bar, figure), 74) if line)


def _note(bar: Bar, figure: Figure) -> str:
    parts = [f"not run: {figure.skipped}"] if figure.skipped else []
    if figure.theirs_ms is not None and figure.ours_ms is not None:
        parts.append(f"{figure.ours_ms:.4g} ms against {figure.theirs_ms:.4g} ({bar.peer})")
    if figure.bits is not None:
        parts.append(f"{figure.bits:.1f} bits of {bar.least_bits:g}" if bar.least_bits else f"{figure.bits:.1f} bits")
    return "; ".join([*parts, figure.note] if figure.note else parts)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width) or [""]


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="A bar or a group of them; may be repeated.")
@click.option("--quick", is_flag=True, help="Few rounds, small modules: to see that it works, not to quote.")
@click.option("--context", is_flag=True, help="Instead: every packing for four modules and 1 to 2048 tokens; long.")
@click.option("--json", "as_json", is_flag=True, help="Print data.")
def main(only: tuple[str, ...], quick: bool, context: bool, as_json: bool) -> None:
    """Hold the engine to its bars: a table with each figure, its range, the bars, and whether they are held."""
    from helora_rns.choice import chosen as kernel_set

    if context:
        from helora_harness.engine import context as rows

        rows.tell(quick=quick, as_json=as_json)
        return
    try:
        bars = chosen(only)
    except KeyError as unknown:
        names = ", ".join((*GROUPS, *(bar.name for bar in BARS if bar.name not in GROUPS)))
        raise click.UsageError(f"There is no bar {unknown}. There are: {names}.") from None
    kernels = kernel_set()
    with progress("bars", len(bars)) as advance:
        figures = measured(bars, measures(QUICK if quick else USUAL, quick=quick), advance)
    if as_json:
        print_json(document(bars, figures, kernels, quick=quick))
        return
    for line in lines(bars, figures, kernels):
        click.echo(line)
    if quick:
        click.echo("Quick: few rounds and small modules; no figure here is to be quoted.")
