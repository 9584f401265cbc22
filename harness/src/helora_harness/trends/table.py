"""The table of the page: one line for a cell on a machine, with its newest figures and how they came there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

import msgspec

from helora_harness.export.asv import shape_order
from helora_harness.export.svg import number, quantity
from helora_harness.export.view import by_series, is_emulation, provenance_lines
from helora_harness.metrics import metric
from helora_harness.rows import Row, comparable

KINDS = {
    "e2e": "whole runs",
    "counts": "plans, at every commit",
    "lm": "a language model's tokens",
    "micro": "single operations",
}
"""What was measured, in words; the first that there is, is shown first."""

COLUMNS = {
    "rotations_per_token": "rotations",
    "keyswitches_per_token": "key switches",
    "bytes_up_per_token": "up",
    "bytes_down_per_token": "down",
    "bytes_keys": "keys",
    "ms_per_token": "ms/token",
    "tokens_per_second": "tokens/s",
    "precision_bits": "bits",
}


class Line(msgspec.Struct, frozen=True):
    """A cell at a place, and its rows from the oldest commit to the newest."""

    kind: str
    machine: str
    rows: tuple[Row, ...]

    @property
    def newest(self) -> Row:
        return self.rows[-1]

    def values(self, name: str) -> list[float | None]:
        """A metric in each row; None where it is missing."""
        return [value_of(row, name) for row in self.rows]

    @property
    def choice(self) -> dict[str, str]:
        """What it can be chosen by."""
        cell = self.newest.cell
        backend = f"{cell.backend} (emulation)" if is_emulation(self.newest) else cell.backend or "any"
        if self.kind == "micro":
            of = self.newest.provenance
            backend = f"{backend}, N={of.ring_degree}, {len(of.modulus_bits)} primes"
        return {
            "measured": KINDS[self.kind],
            "machine": self.machine,
            "backend": backend,
            "packing": cell.variant or "none",
            "shape": cell.shape or "whole model",
            "tokens": str(cell.tokens),
        }


def value_of(row: Row, name: str) -> float | None:
    """A metric of a row; throughput follows from the time where it was not written down."""
    if name == "tokens_per_second" and name not in row.metrics and row.metrics.get("ms_per_token"):
        return 1e3 / row.metrics["ms_per_token"]
    return row.metrics.get(name)


def lines_of(rows: Sequence[Row]) -> list[Line]:
    """The lines, by what was measured, shape, tokens, and then from fast to slow or few to many."""
    found = [Line(kind, where, tuple(of_cell)) for (kind, where, _), of_cell in by_series(rows).items()]

    def order(line: Line) -> tuple[object, ...]:
        cell, metrics = line.newest.cell, line.newest.metrics
        cost = metrics.get("ms_per_token", metrics.get("keyswitches_per_token", float("inf")))
        return (list(KINDS).index(line.kind), line.machine, is_emulation(line.newest), shape_order(cell.shape),
                cell.tokens, cost, cell.backend, cell.variant)  # fmt: skip

    return sorted(found, key=order)


def table(lines: Sequence[Line], short: Callable[[str], str]) -> str:
    """The table's HTML; each line has the choices that it belongs to as data."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("backend", "packing", "shape", "tokens"))
    head += "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in COLUMNS.values())
    head += '<th scope="col">over commits</th><th scope="col">newest</th>'
    body = "".join(_line(number_of, line, short) for number_of, line in enumerate(lines))
    return f'<div class="scroll"><table id="cells"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _line(at: int, line: Line, short: Callable[[str], str]) -> str:
    row, choice = line.newest, line.choice
    data = "".join(f' data-{name}="{escape(value)}"' for name, value in choice.items())
    tip = escape("\n".join(words for words in provenance_lines(row) if words))
    cells = "".join(f"<td>{escape(choice[name])}</td>" for name in ("backend", "packing", "shape", "tokens"))
    if row.outcome != "ok":
        cells += f'<td colspan="{len(COLUMNS)}" class="{row.outcome}">{row.outcome}: {escape(row.reason)}</td>'
    else:
        cells += "".join(f'<td class="number">{_figure(row, name)}</td>' for name in COLUMNS)
    return (
        f'<tr id="line-{at}"{data} title="{tip}" tabindex="0">{cells}<td>{_spark(line)}</td>'
        f"<td><code>{short(row.provenance.commit)}</code></td></tr>"
    )


def _figure(row: Row, name: str) -> str:
    value = value_of(row, name)
    if value is None:
        return ""
    unit = metric(name).unit
    return escape(quantity(value, "bytes") if unit.startswith("bytes") else number(value))


def _spark(line: Line) -> str:
    """A small drawing of the main metric; it breaks where two rows cannot be compared."""
    name = "ms_per_token" if "ms_per_token" in line.newest.metrics else "keyswitches_per_token"
    points = [(at, value) for at, value in enumerate(line.values(name)) if value is not None]
    if len(points) < 2:
        return ""
    most, last = max(value for _, value in points) or 1.0, len(line.rows) - 1 or 1
    drawn = []
    for number_of, (at, value) in enumerate(points):
        broken = number_of == 0 or comparable(line.rows[points[number_of - 1][0]], line.rows[at]) is not None
        drawn.append(f"{'M' if broken else 'L'}{2 + 76 * at / last:.1f},{20 - 17 * value / most:.1f}")
    about = f"{metric(name).label}: {number(points[0][1])} to {number(points[-1][1])}"
    inner = f'<path d="{"".join(drawn)}"/>'
    return f'<svg class="spark" viewBox="0 0 80 22" role="img" aria-label="{escape(about)}">{inner}</svg>'


def choices(lines: Sequence[Line]) -> Mapping[str, list[str]]:
    """The values of each choice, in the order to offer them."""
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        for name, value in line.choice.items():
            found.setdefault(name, {})[value] = None

    def ordered(name: str, values: dict[str, None]) -> list[str]:
        if name == "tokens":
            return sorted(values, key=int)
        if name == "shape":
            return sorted(values, key=lambda shape: shape_order(shape) if ":" in shape else [0])
        return list(values) if name in ("measured", "machine") else sorted(values)

    return {name: ordered(name, values) for name, values in found.items()}
