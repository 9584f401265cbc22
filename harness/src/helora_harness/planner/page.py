"""The table of ``docs/packings.md``, a summary of the figures, and a check that they still hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import msgspec
import numpy as np

from helora_core.host.manager import get_manager
from helora_core.planning.planner import CalibratedBackend
from helora_harness.places import DATA, DOCS
from helora_harness.planner.measure import Cell, Measurements, all_groups, cell_of, ranked

FIGURES = DATA / "planner.json"
PAGE = DOCS / "packings.md"
BEGIN, END = "<!-- planner: begin -->", "<!-- planner: end -->"

MEDIAN_BAR, USUAL_BAR, WORST_BAR, CHOICE_BAR = 0.15, 0.30, 0.50, 1.10


def load() -> Measurements:
    """The committed figures."""
    return msgspec.json.decode(FIGURES.read_bytes(), type=Measurements)


def outdated(measurements: Measurements) -> Iterator[str]:
    """Groups of cells that the planner would not make now, of the same profile: their figures are of other plans."""
    name = measurements.backend
    machine = CalibratedBackend(get_manager().load_backend(name), measurements.profile)
    for shape, tokens, private in all_groups():
        group = f"{shape} {tokens} {'private' if private else 'open'}"
        found = ranked(machine, name, shape, tokens, private)
        now = {_told(cell_of(each, shape, tokens, private, None)) for each in found if each.refusal is None}
        of_group = (
            each for each in measurements.cells if (each.shape, each.tokens, each.private) == (shape, tokens, private)
        )
        then = {_told(cell) for cell in of_group}
        for words in sorted(now ^ then):
            yield f"{group}: {words} is {'new' if words in now else 'gone'}"


def _told(cell: Cell) -> str:
    """A plan and its prediction. Costs are sums of floats, whose last digits may differ between machines."""
    counts = ", ".join(f"{name} {count}" for name, count in cell.counts.items())
    return f"{cell.packing} at N={cell.ring_degree}, {cell.tokens_per_run} a run, {counts}, {cell.predicted_ms:.6g} ms"


def verdicts(measurements: Measurements) -> tuple[list[str], list[str]]:
    """What the figures show, in words, and which bars they break."""
    timed = [cell for cell in measurements.cells if cell.measured_ms is not None]
    errors = [abs(cell.predicted_ms / (cell.measured_ms or 1) - 1) for cell in timed]
    shown = [
        f"{len(timed)} plans measured; predictions are off by {statistics.median(errors):.1%} in the median, by "
        f"{max(errors):.1%} at worst."
    ]
    broken = []
    if len(timed) < 12:
        broken.append(f"only {len(timed)} plans were measured")
    usual = sorted(errors)[math.ceil(0.9 * len(errors)) - 1]
    if statistics.median(errors) > MEDIAN_BAR or usual > USUAL_BAR or max(errors) > WORST_BAR:
        broken.append(f"predictions: {shown[0]}")
    losses = {}
    for key in dict.fromkeys((cell.shape, cell.tokens, cell.private) for cell in measurements.cells):
        group = [cell for cell in timed if (cell.shape, cell.tokens, cell.private) == key]
        if not group:
            continue
        chosen = min(group, key=lambda cell: cell.predicted_ms)
        losses[key] = (chosen.measured_ms or 0) / min(cell.measured_ms or np.inf for cell in group)
    shown.append(
        f"The chosen plan takes {max(losses.values()) - 1:.1%} longer than the best one measured at worst, over "
        f"{len(losses)} choices."
    )
    broken += [
        f"{key}: the chosen plan takes {loss:.2f} times the best" for key, loss in losses.items() if loss > CHOICE_BAR
    ]
    return shown, broken


def rendered(measurements: Measurements) -> str:
    """The table and what it shows."""
    where = measurements.profile.provenance
    shown, _ = verdicts(measurements)
    lines = [
        f"{where.library} {where.library_version}, {where.cpu} ({where.architecture}, {where.cores} "
        f"cores, one thread), Python {where.python_version}, {where.date[:10]}; a profile of {where.rounds} "
        f"rounds measured on the spot, medians of {measurements.rounds} interleaved runs, "
        f"outside slow phases of the machine. {' '.join(shown)}",
        "",
        "Rotations and the other counts are per run; times and bytes per token, where padding is paid by the tokens "
        "that are there. Private plans are sanitised to 40 bits. A dash: one run takes too long to be measured.",
        "",
        "| shape | tokens | weights | packing | N | tokens/run | rotations | key switches | ct×pt | levels "
        "| bytes/token | key holder learns | predicted ms | measured ms | bound by |",
        "|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_row(cell))} |" for cell in measurements.cells)])


def _row(cell: Cell) -> list[str]:
    counts = ("rotations", "keyswitches", "ct_pt")
    return [
        cell.shape,
        str(cell.tokens),
        "private" if cell.private else "open",
        f"`{cell.packing}`",
        str(cell.ring_degree),
        str(cell.tokens_per_run),
        *(str(cell.counts[name]) for name in counts),
        str(cell.depth),
        _bytes(cell.bytes_per_token),
        cell.leakage,
        f"{cell.predicted_ms:.3g}",
        "—" if cell.measured_ms is None else f"{cell.measured_ms:.3g}",
        cell.bound_by,
    ]


def _bytes(count: float) -> str:
    return f"{count / 1024:.0f} KiB" if count < 10 * 1024**2 else f"{count / 1024**2:.0f} MiB"


def page(measurements: Measurements) -> str:
    """``docs/packings.md`` with the table between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{rendered(measurements)}\n{END}{after}"
