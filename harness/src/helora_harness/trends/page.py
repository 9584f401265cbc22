"""The page: choices, the table, one chart over commits with what was meant, and what got worse and why.

Everything is in one file that asks for nothing else. Without JavaScript the table has all lines, and there is no chart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from helora_harness.export.asv import benchmark_name
from helora_harness.export.html import STYLE
from helora_harness.export.svg import number, quantity
from helora_harness.export.view import absences, commits_of, place
from helora_harness.metrics import metric
from helora_harness.rows import Row, comparable
from helora_harness.trends.annotations import Annotation
from helora_harness.trends.regressions import Regression, regressions
from helora_harness.trends.table import Line, choices, lines_of, table, value_of

_HERE = Path(__file__).parent
_SCRIPT = (_HERE / "trends.js").read_text(encoding="utf-8")
_STYLE = (_HERE / "trends.css").read_text(encoding="utf-8")
_ALL = "all"
_PLOTTED = (
    *("ms_per_token", "tokens_per_second", "rotations_per_token", "keyswitches_per_token", "ct_pt_per_token"),
    *("bytes_up_per_token", "bytes_down_per_token", "bytes_keys", "precision_bits", "encrypt_ms_per_token"),
    *("compute_ms_per_token", "decrypt_ms_per_token", "ahead_ms_per_token", "bytes_ahead_up_per_token"),
)


def to_page(
    rows: Sequence[Row], subjects: Mapping[str, str], annotations: Sequence[Annotation], left_out: Sequence[str]
) -> str:
    """The page of the rows of one history.

    Args:
        rows: Of committed states; at least one.
        subjects: Of the commits, by hash.
        annotations: Changes that were meant.
        left_out: Lines about what is not among the rows.
    """
    commits = commits_of(rows)
    lines = lines_of(rows)
    dates = {row.provenance.commit: f"{row.provenance.commit_date:%Y-%m-%d}" for row in rows}
    worse = regressions(rows, annotations)
    newest = commits[-1]
    data = {
        "commits": [[commit[:8], dates[commit], subjects.get(commit, "")] for commit in commits],
        "metrics": {name: [metric(name).label, metric(name).unit, metric(name).better.value] for name in _PLOTTED},
        "lines": [_points(line, commits) for line in lines],
        "meant": [
            [at, each.text]
            for each in annotations
            for at, commit in enumerate(commits)
            if commit.startswith(each.commit)
        ],
    }
    left = "".join(f"<li>{escape(line)}</li>" for line in [*absences(rows), *(f"left out: {x}" for x in left_out)])
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>helora: performance history</title>
<style>{STYLE}{_STYLE}</style>
</head>
<body class="trends">
<main>
<h1>Performance history</h1>
<p>{len(rows)} rows of {len(commits)} commits, {dates[commits[0]]} to {dates[newest]}; the newest is
<code>{newest[:8]}</code> {escape(subjects.get(newest, ""))}. {_verdict(worse)}</p>
<nav><a href="report.html">Phases, precision against time, backends</a>
<a href="viewer/index.html{_first_benchmark(lines)}">asv's viewer</a>
<a href="rows.csv">rows.csv</a> <a href="rows.jsonl">rows.jsonl</a></nav>
<noscript><p class="faint">Without JavaScript: every line, and no chart.</p></noscript>
<form class="choices" id="choices" onsubmit="return false">{_selects(lines)}<label>metric<select id="metric"
name="metric"></select></label></form>
<p role="status"></p>
<section id="chart" hidden>
<div class="drawn"></div><ol class="notes meant"></ol></section>
{table(lines, lambda commit: commit[:8])}
{_worse(worse)}
<h2>What is missing</h2>
<ul class="notes">{left or "<li>nothing</li>"}</ul>
</main>
<script type="application/json" id="data">{text}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _first_benchmark(lines: Sequence[Line]) -> str:
    """Where asv's viewer opens: at the time of one cell; its own overview is of changes of any size on any machine."""
    names = [benchmark_name(line.newest, "ms_per_token") for line in lines if "ms_per_token" in line.newest.metrics]
    return f"#view=explore&amp;bench={names[0]}" if names else ""


def _points(line: Line, commits: Sequence[str]) -> dict[str, object]:
    """What the chart needs of a line: where each row is, its values, and whether it can be compared with the last."""
    points = []
    before: Row | None = None
    for row in line.rows:
        values = {name: value for name in _PLOTTED if (value := value_of(row, name)) is not None}
        reason = comparable(before, row) if before is not None and row.outcome == "ok" else None
        points.append([commits.index(row.provenance.commit), values, reason or "", row.reason])
        before = row if row.outcome == "ok" else before
    return {
        "name": ", ".join(line.choice[name] for name in ("backend", "packing", "shape", "tokens")),
        "points": points,
    }


def _selects(lines: Sequence[Line]) -> str:
    drawn = []
    for name, values in choices(lines).items():
        every = "" if name in ("measured", "machine") else f'<option value="">{_ALL}</option>'
        options = "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in values)
        drawn.append(f'<label>{name}<select name="{name}">{every}{options}</select></label>')
    return "".join(drawn)


def _verdict(worse: Sequence[Regression]) -> str:
    still = [each for each in worse if not each.mended and not each.meant]
    if not still:
        return "<strong>Nothing is worse than it was, but for what was meant.</strong>"
    what = "1 figure is worse than it was" if len(still) == 1 else f"{len(still)} figures are worse than they were"
    return f'<strong><a href="#worse">{what}, unexplained.</a></strong>'


def _worse(worse: Sequence[Regression]) -> str:
    """What got worse and is not good again, then what was mended since."""
    parts = [
        '<h2 id="worse">What got worse</h2>',
        "<p>One cell against itself on one machine, between two commits that were measured one after the other. Counts "
        "and bytes: any more at all. Times: over 15 % more, which is a reason to compare the two commits, and no "
        "verdict. Precision: over a bit less.</p>",
    ]
    groups = (
        ("Unexplained", [each for each in worse if not each.mended and not each.meant]),
        ("Meant", [each for each in worse if not each.mended and each.meant]),
        ("As good as before again, by now", [each for each in worse if each.mended]),
    )
    for heading, found in groups:
        rows = "".join(map(_regression, found))
        inner = (
            '<div class="scroll"><table class="worse"><thead><tr><th scope="col">commit</th><th scope="col">cell</th>'
            '<th scope="col">metric</th><th scope="col" class="number">before</th><th scope="col" class="number">after'
            f'</th><th scope="col">what changed</th></tr></thead><tbody>{rows}</tbody></table></div>'
            if rows
            else "<p>Nothing.</p>"
        )
        summary = f"<summary>{heading}: {len(found)}</summary>"
        parts.append(f"<details{' open' if heading == 'Unexplained' else ''}>{summary}{inner}</details>")
    return "".join(parts)


def _regression(each: Regression) -> str:
    about, after = metric(each.metric), each.after
    where = "" if after.kind == "counts" else f"<br><small>{escape(place(after))}</small>"
    old, new = each.before.provenance.commit, after.provenance.commit
    how = "; ".join(each.causes)
    said = f"<br><em>{escape(each.meant)}</em>" if each.meant else ""
    compare = ""
    if after.kind == "e2e" and not each.meant:
        cell = after.cell
        compare = (
            f"<br><code>helora bench ab {old[:8]} {new[:8]} --cells "
            f'"{cell.backend} {cell.packing} {cell.shape} {cell.tokens}"</code>'
        )
    shown = quantity if about.unit.startswith("bytes") else lambda value, unit: number(value)
    before_value, after_value = (shown(row.metrics[each.metric], about.unit) for row in (each.before, after))
    ratio = f"<br><small>× {each.ratio:.2f}</small>" if each.before.metrics[each.metric] else ""
    return (
        f"<tr><td><code>{new[:8]}</code><br><small>after {old[:8]}</small></td>"
        f"<td>{escape(str(after.cell))}{where}</td>"
        f'<td>{escape(about.label)}</td><td class="number">{before_value}</td>'
        f'<td class="number">{after_value}{ratio}</td><td>{escape(how)}{said}{compare}</td></tr>'
    )
