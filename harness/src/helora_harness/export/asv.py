"""Rows as asv results (its format 2), so that ``asv publish``, ``asv show`` and ``asv compare`` work on them.

A benchmark is one metric of one cell, such as ``e2e.rns.rank_bsgs.1536x1536r16.t1.ms_per_token``, without parameters:
asv averages over parameters, and a cell that comes, goes or fails would move the average of the others. asv takes lower
for better, so only metrics for which that holds are written. What was not measured is n/a; what failed is ``failed``.

asv's machine is a hardware class with its CPU, threads and Python: viewers offer every combination of what they are
given apart, and most would be empty. Counts are the same everywhere, and stand with the times of every machine.
Versions of libraries do not split a line of asv's plots: our own report marks where they change.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from helora_harness.metrics import Better, metric
from helora_harness.rows import Row, RowsRefused, latest

ANY_MACHINE = "any"
VERSION = "1"
"""Of every benchmark: results of another version are not shown with these."""

_COLUMNS = ["result", "params", "version", "started_at", "duration"]
_MARK = "written-by-helora"


def write_asv(rows: Iterable[Row], results_dir: Path) -> list[str]:
    """Write a new results directory for asv; returns a line about each thing that was left out.

    Args:
        rows: In any order; of rows with the same key the last counts.
        results_dir: asv's ``results_dir``. Its contents are replaced, if this function wrote them.

    Raises:
        RowsRefused: The directory holds files that this function did not write.
    """
    every = latest(rows)
    clean = [row for row in every if not row.provenance.dirty]
    left_out = [f"{len(every) - len(clean)} rows with changes that their commit does not have"]
    benchmarks, higher = _benchmarks(clean)
    left_out.append(f"metrics that are not better when lower: {', '.join(sorted(higher))}")
    _make_room(results_dir)
    descriptions = (benchmark.description for family in benchmarks.values() for benchmark in family)
    _write(results_dir / "benchmarks.json", {"version": 2, **{one["name"]: one for one in descriptions}})
    of_machine: dict[str, list[Row]] = defaultdict(list)
    counts = [row for row in clean if row.kind == "counts"]
    for row in clean:
        if row.kind != "counts":
            of_machine[machine_name(row)].append(row)
    for machine, timed in of_machine.items() or [(ANY_MACHINE, [])]:
        _write_machine(results_dir / machine, machine, timed, counts, benchmarks)
    return [line for line, told in zip(left_out, (len(clean) < len(every), higher), strict=True) if told]


def machine_name(row: Row) -> str:
    """Hardware class, CPU, threads and Python of a timed row, as one name."""
    of = row.provenance
    return f"{of.machine}-{_slug(of.cpu_model)}-{of.threads}t-py{_minor(of.python)}"


def _write_machine(
    folder: Path, machine: str, timed: list[Row], counts: list[Row], benchmarks: dict[str, list[_Benchmark]]
) -> None:
    of = timed[-1].provenance if timed else None
    folder.mkdir()
    about = {
        "machine": machine,
        "arch": of.machine.partition("-")[0] if of else "",
        "cpu": of.cpu_model if of else "",
        "num_cpu": of.machine.partition("-")[2].partition("c")[0] if of else "",
        "os": of.os if of else "",
        "ram": "",
    }
    _write(folder / "machine.json", {**about, "version": 1})
    python = _minor(of.python) if of else ""
    environment = f"py{python}" if of else "counts"
    of_commit: dict[str, list[Row]] = defaultdict(list)
    for row in (*counts, *timed):
        of_commit[row.provenance.commit].append(row)
    for commit, rows in of_commit.items():
        head = {"commit_hash": commit, "env_name": environment, "python": python, "params": {"machine": machine}}
        _write(folder / f"{commit[:8]}-{environment}.json", {**head, **_results(rows, benchmarks)})


def _slug(text: str) -> str:
    plain = re.sub(r"\((r|tm|c)\)|\bcpu\b|\bprocessor\b|@.*$", " ", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.") or "unknown"


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def benchmark_name(row: Row, name: str) -> str:
    """The benchmark of a metric of a row's cell."""
    return f"{_family(row)}.{name}"


def _family(row: Row) -> str:
    """What the names of a cell's benchmarks begin with."""
    cell = row.cell
    d_in, d_out, rank = shape_order(cell.shape) or (0, 0, 0)
    shape = f"{d_in}x{d_out}r{rank}" if cell.shape else ""
    parts = (row.kind, cell.backend, cell.variant.replace(", ", "-").replace("+", "-"), shape, f"t{cell.tokens}")
    return ".".join(part for part in parts if part)


class _Benchmark(msgspec.Struct):
    """All rows of one metric of a family."""

    metric: str
    description: dict[str, Any]


def _benchmarks(rows: list[Row]) -> tuple[dict[str, list[_Benchmark]], set[str]]:
    """The benchmarks of every family, and the metrics that asv cannot show."""
    names: dict[str, set[str]] = defaultdict(set)
    unfit: set[str] = set()
    for row in rows:
        for name in row.metrics:
            if metric(name).better is Better.LOWER:
                names[_family(row)].add(name)
            else:
                unfit.add(name)
    found = {
        family: [_Benchmark(name, _description(family, name)) for name in sorted(of)]
        for family, of in sorted(names.items())
    }
    return found, unfit


def _description(family: str, name: str) -> dict[str, Any]:
    about = metric(name)
    return {
        "name": f"{family}.{name}",
        "code": f"{family}: {about.label}, {about.unit}; lower is better",
        "type": "track",
        "unit": _unit(about.unit),
        "less_is_better": True,  # asv-tachyon takes a benchmark of type track for a throughput otherwise
        "param_names": [],
        "params": [],
        "timeout": 60,
        "version": VERSION,
    }


def _unit(unit: str) -> str:
    """Without ``per token``, which the name says: asv scales bytes only by their plain name, and axes are narrow."""
    return unit.removesuffix("/token").removesuffix("per token")


def shape_order(shape: str) -> list[int]:
    """For sorting shapes by their numbers."""
    return [int(part) for part in shape.split(":") if part]


def _results(rows: list[Row], benchmarks: dict[str, list[_Benchmark]]) -> dict[str, Any]:
    """What a result file says of the rows of one commit."""
    started = _milliseconds(max(row.provenance.date for row in rows))
    results = {}
    for row in rows:
        for benchmark in benchmarks.get(_family(row), ()):
            if benchmark.metric in row.metrics or row.outcome == "failed":
                value = row.metrics.get(benchmark.metric)
                # asv takes one null for a list of nothing but nulls.
                of = [None if value is None else [value], [], VERSION, started, 0.0]
                results[benchmark.description["name"]] = of
    return {
        "date": _milliseconds(rows[-1].provenance.commit_date),
        "requirements": {},
        "env_vars": {},
        "result_columns": _COLUMNS,
        "results": results,
        "durations": {},
        "version": 2,
    }


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _make_room(results_dir: Path) -> None:
    if results_dir.exists():
        if any(results_dir.iterdir()) and not (results_dir / _MARK).exists():
            raise RowsRefused(
                f"{results_dir} holds results that were not written by this export.",
                hint="Name a new directory, or delete that one yourself.",
            )
        shutil.rmtree(results_dir)
    results_dir.mkdir(parents=True)
    (results_dir / _MARK).write_text("Made from result rows: a new export replaces this directory.\n", encoding="utf-8")


def _write(path: Path, data: dict[str, Any]) -> None:
    # Not msgspec: asv reads NaN, which it would write as null.
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
