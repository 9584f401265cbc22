"""Rows as one HTML page that needs nothing else: no request leaves it, and without JavaScript it shows all drawings."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from helora_harness.export.asv import shape_order
from helora_harness.export.charts import (
    Bar,
    HistoryPoint,
    Residual,
    Series,
    Spot,
    history,
    pareto,
    phases,
    residuals,
    tip_of,
)
from helora_harness.export.matrix import matrix_section
from helora_harness.export.svg import COLOURS, mark, number, quantity
from helora_harness.export.view import (
    absences,
    by_series,
    commits_of,
    is_emulation,
    label,
    newest,
    place,
    provenance_lines,
)
from helora_harness.metrics import PHASES, Better, metric
from helora_harness.rows import Row, RowsRefused, comparable

STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
_SCRIPT = Path(__file__).with_name("report.js").read_text(encoding="utf-8")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

TOLERANCE = 0.2
"""A time further than this share from the predicted one is marked: overhead of our own, or an outdated profile."""

Choice = dict[str, str]


def to_html(
    rows: Iterable[Row], *, title: str = "Performance report", notes: Sequence[str] = (), most_commits: int = 100
) -> str:
    """The page.

    Args:
        rows: In any order. Those with changes that their commit does not have are left out, and counted.
        title: Its heading.
        notes: Lines about what is not among the rows.
        most_commits: Older ones are left out, and counted: a page of thousands would be slow to open.

    Raises:
        RowsRefused: There is no row to show.
    """
    every = list(rows)
    clean = [row for row in every if not row.provenance.dirty]
    if not clean:
        raise RowsRefused("There is no row of a committed state.", hint="Measure a committed state first.")
    if len(clean) < len(every):
        notes = [*notes, f"{len(every) - len(clean)} rows with changes that their commit does not have"]
    commits = commits_of(clean)
    if len(commits) > most_commits:
        notes = [*notes, f"{len(commits) - most_commits} older commits"]
        commits = commits[-most_commits:]
        kept = set(commits)
        clean = [row for row in clean if row.provenance.commit in kept]
    packings = sorted({row.cell.variant for row in clean})
    colours = {packing: number_of for number_of, packing in enumerate(packings)}
    last = max(clean, key=lambda row: row.provenance.commit_date).provenance
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{len(clean)} rows of {len(commits)} commits, up to <code>{last.commit[:8]}</code> of "
        f"{last.commit_date:%Y-%m-%d}.</p>",
        _list([*absences(clean), *(f"left out: {note}" for note in notes)]),
        _history_section(clean, commits, colours),
        _newest_section(clean, commits[-1], colours),
        matrix_section(clean),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>helora: {escape(title)}</title>
<style>
{STYLE}</style>
<noscript><style>figure[hidden] {{ display: block; }} .choices {{ display: none; }}</style></noscript>
</head>
<body>
<main>
{"".join(parts)}
</main>
<script>
{_SCRIPT}</script>
</body>
</html>
"""


def _list(lines: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>' if lines else ""


def _chooser(name: str, heading: str, about: str, figures: Sequence[tuple[Choice, str]]) -> str:
    """A section with a choice for each parameter, and the figure of each combination that there is."""
    options: dict[str, dict[str, None]] = defaultdict(dict)
    for choice, _ in figures:
        for parameter, value in choice.items():
            options[parameter][value] = None
    selects = []
    for parameter, values in options.items():
        chosen = figures[0][0][parameter]
        inner = "".join(
            f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
            f"{escape(_option(parameter, value))}</option>"
            for value in _sorted(parameter, values)
        )
        selects.append(f'<label>{escape(parameter)}<select name="{escape(parameter)}">{inner}</select></label>')
    drawn = [
        f'<figure data-choice="{escape(json.dumps(choice))}"{" hidden" if i else ""}>{figure}</figure>'
        for i, (choice, figure) in enumerate(figures)
    ]
    return (
        f'<section class="chooser" id="{name}"><h2>{escape(heading)}</h2><p>{escape(about)}</p>'
        f'<form class="choices" onsubmit="return false">{"".join(selects)}</form><p role="status"></p>'
        f"{''.join(drawn)}</section>"
    )


def _sorted(parameter: str, values: Iterable[str]) -> list[str]:
    if parameter == "shape":
        return sorted(values, key=shape_order)
    return sorted(values, key=int) if parameter == "tokens" else list(values)


def _option(parameter: str, value: str) -> str:
    if parameter == "metric":
        kind, _, name = value.partition(".")
        about = metric(name)
        return f"{about.label}, {about.unit} ({'end to end' if kind == 'e2e' else kind})"
    return value or "any"


def _history_section(rows: Sequence[Row], commits: Sequence[str], colours: Mapping[str, int]) -> str:
    lines: dict[tuple[str, ...], list[tuple[str, list[Row]]]] = defaultdict(list)
    for (kind, where, cell), of_cell in by_series(rows).items():
        for name in sorted({name for row in of_cell for name in row.metrics}):
            having = [row for row in of_cell if name in row.metrics or row.outcome == "failed"]
            lines[f"{kind}.{name}", where, cell.backend, cell.shape, str(cell.tokens)].append((cell.variant, having))
    if not lines:
        return "<h2>History</h2><p>Nothing has run yet.</p>"
    dates = {row.provenance.commit: f"{row.provenance.commit_date:%Y-%m-%d}" for row in rows}
    axis = [(commit[:8], dates[commit]) for commit in commits]
    emulated = {row.cell.backend for row in rows if is_emulation(row)}
    figures = []
    fullest = {choice: -sum(len(rows) for _, rows in of_choice) for choice, of_choice in lines.items()}
    for choice in sorted(lines, key=lambda of: _history_order(of, emulated, fullest)):
        named = dict(zip(("metric", "machine", "backend", "shape", "tokens"), choice, strict=True))
        figures.append((named, _history_figure(named, sorted(lines[choice]), commits, axis, colours)))
    return _chooser(
        "history",
        "History",
        "One line per packing. A hollow mark at a dashed line tells that the value came about in another way than the "
        "one before, as with a new version of the library; a cross tells that the cell failed. Point at them for why. "
        "Where a value stays the same, only the ends are marked.",
        figures,
    )


def _history_order(
    choice: tuple[str, ...], emulated: set[str], fullest: Mapping[tuple[str, ...], int]
) -> tuple[object, ...]:
    """The first is shown first: time, of a backend that encrypts, with the longest history."""
    name, where, backend, shape, tokens = choice
    first = (not name.startswith("e2e."), name != "e2e.ms_per_token", name, backend in emulated, fullest[choice])
    return (*first, where, backend, shape_order(shape), int(tokens))


def _history_figure(
    choice: Choice,
    lines: Sequence[tuple[str, list[Row]]],
    commits: Sequence[str],
    axis: Sequence[tuple[str, str]],
    colours: Mapping[str, int],
) -> str:
    name = choice["metric"].partition(".")[2]
    about = metric(name)
    series = []
    for packing, rows in lines:
        points = []
        before: Row | None = None
        for row in rows:
            at = commits.index(row.provenance.commit)
            if row.outcome == "failed":
                tip = "\n".join((f"{packing} failed: {row.reason}", *provenance_lines(row)))
                points.append(HistoryPoint(at, None, tip))
                continue
            reason = comparable(before, row) if before else None
            note = f"not comparable with the value before: {reason}" if reason else ""
            lines_of = provenance_lines(row)
            if before is not None and lines_of[1:3] == provenance_lines(before)[1:3]:
                lines_of = lines_of[:1]  # a page of many commits need not repeat itself
            tip = tip_of(packing or choice["backend"], row.metrics[name], about.unit, *lines_of, note)
            points.append(HistoryPoint(at, row.metrics[name], tip, bool(reason)))
            before = row
        series.append(Series(packing or "all", colours[packing], tuple(points)))
    words = [choice["backend"], choice["shape"], f"{choice['tokens']} tokens" if choice["tokens"] != "1" else "1 token"]
    caption = f"{about.label.capitalize()}: {', '.join(word for word in words if word)}"
    better = "" if about.better is Better.UNKNOWN else about.better.value
    drawn = history(caption, about.unit, axis, series, better)
    return f"<figcaption>{escape(caption)}</figcaption>{drawn}{_history_table(lines, name, commits, axis)}"


def _history_table(
    lines: Sequence[tuple[str, list[Row]]], name: str, commits: Sequence[str], axis: Sequence[tuple[str, str]]
) -> str:
    values = {
        (packing, row.provenance.commit): number(row.metrics[name]) if row.outcome == "ok" else "failed"
        for packing, rows in lines
        for row in rows
    }
    body = []
    for commit, (short, date) in zip(commits, axis, strict=True):
        cells = "".join(f"<td>{values.get((packing, commit), 'n/a')}</td>" for packing, _ in lines)
        body.append(f"<tr><th scope='row'><code>{short}</code> {date}</th>{cells}</tr>")
    head = "".join(f"<th scope='col'>{escape(packing or 'all')}</th>" for packing, _ in lines)
    head = f"<thead><tr><th scope='col'>commit, {escape(metric(name).unit)}</th>{head}</tr></thead>"
    return (
        "<details><summary>The values</summary>"
        f"<div class='scroll'><table>{head}<tbody>{''.join(body)}</tbody></table></div></details>"
    )


def _newest_section(rows: Sequence[Row], commit: str, colours: Mapping[str, int]) -> str:
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in newest(rows):
        if row.kind == "e2e" and row.outcome == "ok" and "ms_per_token" in row.metrics:
            groups[place(row), row.cell.shape, str(row.cell.tokens)].append(row)
    if not groups:
        return "<h2>Newest figures</h2><p>No run from end to end was measured.</p>"
    shapes = {backend: i for i, backend in enumerate(sorted({row.cell.backend for row in rows}))}
    figures = []
    for (where, shape, tokens), group in groups.items():
        choice = {"machine": where, "shape": shape, "tokens": tokens}
        group.sort(key=lambda row: row.metrics["ms_per_token"])
        drawn = [_phases(group, commit), _pareto(group, commit, colours, shapes), _residuals(group, commit)]
        figures.append((choice, "".join(drawn)))
    return _chooser(
        "newest", "Newest figures", "Of each backend and packing, its newest commit; the fastest first.", figures
    )


def _phases(rows: Sequence[Row], commit: str) -> str:
    split = [row for row in rows if all(name in row.metrics for name in PHASES)]
    if not split:
        return ""
    bars = []
    for row in split:
        parts = [(row.metrics[name], metric(name)) for name in PHASES]
        tips = [(value, tip_of(of.label, value, of.unit, *provenance_lines(row))) for value, of in parts]
        bars.append(Bar(label(row, commit), tuple(tips)))
    drawn = phases("Time of each phase", "ms/token", [metric(name).label for name in PHASES], bars)
    return f"<h3>Where the time goes</h3>{drawn}"


def _pareto(rows: Sequence[Row], commit: str, colours: Mapping[str, int], shapes: Mapping[str, int]) -> str:
    precise = [row for row in rows if "precision_bits" in row.metrics]
    if not precise:
        return ""
    spots = []
    for row in precise:
        bits, ms = row.metrics["precision_bits"], row.metrics["ms_per_token"]
        tip = tip_of(label(row, commit), ms, "ms/token", f"{number(bits)} bits of precision", *provenance_lines(row))
        colour, shape = colours[row.cell.variant], shapes[row.cell.backend]
        spots.append(Spot(label(row, commit), bits, ms, colour, shape, tip, not is_emulation(row)))
    legend = [
        f'<li class="s{colours[packing] % COLOURS}"><svg viewBox="-7 -7 14 14">{mark(0, 0, colours[packing], shape=1)}'
        f"</svg>{escape(packing)}</li>"
        for packing in sorted({row.cell.variant for row in precise})
    ] + [
        f'<li><svg viewBox="-7 -7 14 14">{mark(0, 0, 7, shape=shapes[backend])}</svg>{escape(backend)}</li>'
        for backend in sorted({row.cell.backend for row in precise})
    ]
    hollow = " Hollow: an emulation, which encrypts nothing." if any(map(is_emulation, precise)) else ""
    return (
        "<h3>Precision against time</h3><p class='faint'>Colour is the packing, form the backend; "
        f"the dashed line joins what nothing beats in both.{hollow}</p><ul class='legend'>{''.join(legend)}</ul>"
        f"{pareto('Precision against time', spots)}"
    )


def _residuals(rows: Sequence[Row], commit: str) -> str:
    predicted = [row for row in rows if row.metrics.get("predicted_ms_per_token")]
    if not predicted:
        return ""
    bars = []
    for row in predicted:
        found, said = row.metrics["ms_per_token"], row.metrics["predicted_ms_per_token"]
        tip = tip_of(
            label(row, commit), found, "ms/token", f"predicted: {quantity(said, 'ms/token')}", *provenance_lines(row)
        )
        bars.append(Residual(label(row, commit), found / said - 1, tip))
    return (
        f"<h3>Measured against predicted</h3><p class='faint'>The band is ±{100 * TOLERANCE:.0f} %.</p>"
        f"{residuals('Measured against predicted time', bars, TOLERANCE)}"
    )
