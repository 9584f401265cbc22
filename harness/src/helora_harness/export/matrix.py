"""What each backend takes for each cell, as a table of HTML."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape

from helora_harness.export.asv import shape_order
from helora_harness.export.svg import number
from helora_harness.export.view import is_emulation, newest, place, provenance_lines
from helora_harness.rows import Row


def matrix_section(rows: Sequence[Row]) -> str:
    """A table for each place: what each backend takes for each cell; empty if nothing ran."""
    tables: dict[str, list[Row]] = defaultdict(list)
    for row in newest(rows):
        if row.kind == "e2e":
            tables[place(row)].append(row)
    drawn = "".join(f"<h3>{escape(where)}</h3>{_matrix(group)}" for where, group in tables.items())
    about = "ms/token and bits of precision at the newest commit of each cell; bold: the fastest that encrypts."
    return f"<section id='matrix'><h2>Backends</h2><p>{about}</p>{drawn}</section>" if drawn else ""


def _matrix(rows: Sequence[Row]) -> str:
    backends = sorted({row.cell.backend for row in rows})
    emulated = {row.cell.backend for row in rows if is_emulation(row)}
    table: dict[tuple[str, str, int], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        table[row.cell.shape, row.cell.variant, row.cell.tokens][row.cell.backend] = row
    body = []
    for shape, packing, tokens in sorted(table, key=lambda of: (shape_order(of[0]), of[1:])):
        found = table[shape, packing, tokens]
        times = [row.metrics["ms_per_token"] for row in found.values()
                 if "ms_per_token" in row.metrics and not is_emulation(row)]  # fmt: skip
        cells = "".join(_matrix_cell(found.get(backend), min(times, default=None)) for backend in backends)
        body.append(f"<tr><th scope='row'>{escape(shape)}, {escape(packing)}, {tokens} tokens</th>{cells}</tr>")
    head = "".join(
        f"<th scope='col'>{escape(backend)}{'<br><small>emulation</small>' if backend in emulated else ''}</th>"
        for backend in backends
    )
    return (
        f"<div class='scroll'><table><thead><tr><th scope='col'>cell</th>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _matrix_cell(row: Row | None, best: float | None) -> str:
    if row is None:
        return "<td>n/a</td>"
    if row.outcome != "ok":
        return f"<td class='{row.outcome}' title='{escape(row.reason)}'>{row.outcome}</td>"
    if "ms_per_token" not in row.metrics:
        return "<td>n/a</td>"
    ms, bits = row.metrics["ms_per_token"], row.metrics.get("precision_bits")
    mine = " class='best'" if ms == best and not is_emulation(row) else ""
    tip = escape("\n".join(line for line in provenance_lines(row) if line))
    precise = f" <small>{bits:.1f} bits</small>" if bits is not None else ""
    return f"<td{mine} title='{tip}'>{number(ms)}{precise}</td>"
