"""Rows as asv results (its format 2), so that ``asv publish``, ``asv show`` and ``asv compare`` work on them.

A benchmark is ``kind.metric`` with the parameters backend, packing, shape and tokens. asv takes lower for better, so
only metrics for which that holds are written. What was not measured is n/a; what failed is ``failed``. Counts are the
same on every machine: their machine is ``any``. Versions of libraries do not split a line of asv's plots: our own
report marks where they change.
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
    files: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in clean:
        files[machine_name(row), _file_name(row)].append(row)
    for (machine, name), group in files.items():
        _write(results_dir / machine / "machine.json", {**_machine(group[-1]), "version": 1})
        _write(results_dir / machine / name, _results(group, benchmarks))
    return [line for line, told in zip(left_out, (len(clean) < len(every), higher), strict=True) if told]


def machine_name(row: Row) -> str:
    """Hardware class and CPU of a row, as asv names machines."""
    if row.kind == "counts":
        return ANY_MACHINE
    return f"{row.provenance.machine}-{_slug(row.provenance.cpu_model)}"


def _slug(text: str) -> str:
    plain = re.sub(r"\((r|tm|c)\)|\bcpu\b|\bprocessor\b|@.*$", " ", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.") or "unknown"


def _environment(row: Row) -> str:
    if row.kind == "counts":
        return "counts"
    return f"py{_minor(row.provenance.python)}-{row.provenance.threads}threads"


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _file_name(row: Row) -> str:
    return f"{row.provenance.commit[:8]}-{_environment(row)}.json"


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
        "unit": about.unit,
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
    """One result file: all rows of one commit, machine and environment."""
    last = rows[-1].provenance
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
        "commit_hash": last.commit,
        "env_name": _environment(rows[-1]),
        "date": _milliseconds(last.commit_date),
        "params": _params(rows[-1]),
        "python": _minor(last.python),
        "requirements": {},
        "env_vars": {},
        "result_columns": _COLUMNS,
        "results": results,
        "durations": {},
        "version": 2,
    }


def _params(row: Row) -> dict[str, str]:
    of_machine = _machine(row)
    if row.kind == "counts":
        return of_machine
    return {**of_machine, "python": _minor(row.provenance.python), "threads": str(row.provenance.threads)}


def _machine(row: Row) -> dict[str, str]:
    if row.kind == "counts":
        return dict.fromkeys(("arch", "cpu", "num_cpu", "os", "ram"), "") | {"machine": ANY_MACHINE}
    of = row.provenance
    arch, _, rest = of.machine.partition("-")
    return {
        "machine": machine_name(row),
        "arch": arch,
        "cpu": of.cpu_model,
        "num_cpu": rest.partition("c")[0],
        "os": of.os,
        "ram": "",
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
    path.parent.mkdir(exist_ok=True)
    # Not msgspec: asv reads NaN, which it would write as null.
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
