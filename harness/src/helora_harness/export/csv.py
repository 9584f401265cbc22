"""Rows as one CSV table: a line per row, a column per metric and per item of provenance."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

import msgspec

from helora_harness.rows import Cell, Provenance, Row


def to_csv(rows: Iterable[Row]) -> str:
    """The table, with a header line; a metric that a row lacks is an empty field, a list is joined by spaces."""
    rows = list(rows)
    metrics = sorted({name for row in rows for name in row.metrics})
    header = ["kind", *Cell.__struct_fields__, "outcome", "reason", *metrics, *Provenance.__struct_fields__]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        cell, provenance = msgspec.structs.asdict(row.cell), msgspec.to_builtins(row.provenance)
        fields = {"kind": row.kind, **cell, "outcome": row.outcome, "reason": row.reason, **row.metrics, **provenance}
        writer.writerow([_field(fields.get(name, "")) for name in header])
    return text.getvalue()


def _field(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return " ".join(f"{item:g}" for item in value)
    return value
