"""Rows as asv results (its format 2), so that ``asv publish``, ``asv show`` and ``asv compare`` work on them.

A benchmark is ``kind.metric`` with the parameters backend, packing, shape and tokens. asv takes lower for better, so
only metrics for which that holds are written. What was not measured is n/a; what failed is ``failed``.

asv's machine is a hardware class with its CPU, threads and Python: viewers offer every combination of what they are
given apart, and most would be empty. Counts are the same everywhere, and stand with the times of every machine.
Versions of libraries do not split a line of asv's plots: our own report marks where they change.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.metrics import Better, metric
from harness.rows import Cell, Row, RowsRefused, latest

ANY_MACHINE = "any"
PARAMETERS = ("backend", "packing", "shape", "tokens")
VERSION = "1"
"""Of every benchmark: results of another version are not shown with these."""

_COLUMNS = ["result", "params", "version", "started_at", "duration"]
_MARK = "written-by-helora"

Point = tuple[str, ...]
"""A cell's parameters, each as ``repr`` gives it: asv wants them so."""


def write_asv(rows: Iterable[Row], results_dir: Path) -> list[str]:
    """Write a results directory of asv anew; returns a line about each thing that was left out.

    Args:
        rows: In any order; of rows with the same key the last counts.
        results_dir: asv's ``results_dir``. What is in it is replaced, if we wrote it.

    Raises:
        RowsRefused: The directory holds what we did not write.
    """
    every = latest(rows)
    clean = [row for row in every if not row.provenance.dirty]
    left_out = [f"{len(every) - len(clean)} rows with changes that their commit does not have"]
    benchmarks, higher = _benchmarks(clean)
    left_out.append(f"metrics that are not better when lower: {', '.join(sorted(higher))}")
    _make_room(results_dir)
    _write(results_dir / "benchmarks.json", {"version": 2, **benchmarks})
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
    folder: Path, machine: str, timed: list[Row], counts: list[Row], benchmarks: dict[str, dict[str, Any]]
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


def _point(cell: Cell) -> Point:
    return tuple(repr(getattr(cell, name)) for name in PARAMETERS)


def _benchmarks(rows: list[Row]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """asv's description of every ``kind.metric``, and the metrics that it cannot show."""
    cells: dict[str, set[Cell]] = defaultdict(set)
    unfit: set[str] = set()
    for row in rows:
        for name in row.metrics:
            if metric(name).better is Better.LOWER:
                cells[f"{row.kind}.{name}"].add(row.cell)
            else:
                unfit.add(name)
    for row in rows:  # a cell that never ran is a parameter all the same, or its failure would not show
        if row.outcome == "failed":
            for name in cells:
                if name.startswith(f"{row.kind}."):
                    cells[name].add(row.cell)
    return {name: _benchmark(name, of) for name, of in sorted(cells.items())}, unfit


def _benchmark(name: str, cells: set[Cell]) -> dict[str, Any]:
    kind, _, plain = name.partition(".")
    about = metric(plain)
    return {
        "name": name,
        "pretty_name": f"{about.label} ({kind})",
        "code": f"{kind}: {about.label}, {about.unit}; lower is better",
        "type": "track",
        "unit": "bytes" if about.unit.startswith("bytes") else about.unit,  # a unit that asv can scale
        "less_is_better": True,  # asv-tachyon takes a benchmark of type track for a throughput otherwise
        "param_names": list(PARAMETERS),
        "params": [[repr(value) for value in _values(cells, parameter)] for parameter in PARAMETERS],
        "timeout": 60,
        "version": VERSION,
    }


def _values(cells: set[Cell], parameter: str) -> list[Any]:
    values = {getattr(cell, parameter) for cell in cells}
    return sorted(values, key=shape_order) if parameter == "shape" else sorted(values)


def shape_order(shape: str) -> list[int]:
    """For sorting shapes by their numbers."""
    return [int(part) for part in shape.split(":") if part]


def _results(rows: list[Row], benchmarks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a result file says of the rows of one commit."""
    found: dict[str, dict[Point, float | None]] = defaultdict(dict)
    for row in rows:
        for name in benchmarks:
            kind, _, plain = name.partition(".")
            if kind == row.kind and (plain in row.metrics or row.outcome == "failed"):
                found[name][_point(row.cell)] = row.metrics.get(plain)
    started = _milliseconds(max(row.provenance.date for row in rows))
    results = {}
    for name, values in found.items():
        params = benchmarks[name]["params"]
        in_order = [values.get(point, math.nan) for point in itertools.product(*params)]
        # asv takes one null for a list of nothing but nulls.
        result = None if all(value is None for value in in_order) else in_order
        results[name] = [result, params, VERSION, started, 0.0]
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
