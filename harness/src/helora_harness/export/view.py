"""What the report shows of rows: where they ran, what they are called, which came last, what their provenance says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from helora_harness.export.asv import shape_order
from helora_harness.rows import Cell, Row, latest

Series = tuple[str, str, Cell]
"""Kind, place and cell: what one line of the history is about."""


def place(row: Row) -> str:
    """Machine class, CPU, threads and Python of a row: times from two places are never in one drawing."""
    if row.kind == "counts":
        return "any machine"
    of = row.provenance
    python = ".".join(of.python.split(".")[:2])
    return f"{of.machine}, {of.cpu_model}, {of.threads} thread{'s' * (of.threads > 1)}, Python {python}"


def is_emulation(row: Row) -> bool:
    """Whether nothing is encrypted, so that times claim nothing."""
    return row.provenance.security == "none"


def label(row: Row, newest_commit: str = "") -> str:
    """Backend and packing of a row, and its commit if that is not the newest."""
    words = [row.cell.backend, row.cell.variant, "(emulation)" if is_emulation(row) else ""]
    if newest_commit and row.provenance.commit != newest_commit:
        words.append(f"at {row.provenance.commit[:8]}")
    return " ".join(word for word in words if word)


def by_series(rows: Iterable[Row]) -> dict[Series, list[Row]]:
    """Rows of each cell at each place, oldest commit first; of the same measurement the last."""
    found: dict[Series, list[Row]] = defaultdict(list)
    for row in latest(rows):
        found[row.kind, place(row), row.cell].append(row)
    return found


def newest(rows: Iterable[Row]) -> list[Row]:
    """The row of the newest commit of every cell at every place, by place, shape, tokens, packing and backend."""
    last = [of_cell[-1] for of_cell in by_series(rows).values()]
    return sorted(last, key=lambda row: (place(row), shape_order(row.cell.shape), row.cell.tokens, label(row)))


def commits_of(rows: Iterable[Row]) -> list[str]:
    """Hashes of the commits, oldest first."""
    dates = {row.provenance.commit: row.provenance.commit_date for row in rows}
    return sorted(dates, key=lambda commit: (dates[commit], commit))


def provenance_lines(row: Row) -> tuple[str, ...]:
    """What a tooltip says of where a value comes from."""
    of = row.provenance
    library = f"{of.library} {of.library_version}".strip()
    bits = "+".join(map(str, of.modulus_bits))
    return (
        f"commit {of.commit[:8]}, {of.commit_date:%Y-%m-%d}",
        f"{library + ', ' if library else ''}N={of.ring_degree}, primes {bits}, {of.levels} levels",
        f"security: {of.security}; plan {of.plan_digest[:12]}",
        "" if row.kind == "counts" else f"measured {of.date:%Y-%m-%d %H:%M}",
    )


def absences(rows: Sequence[Row]) -> list[str]:
    """A line about every backend that did not run at its newest commit, and about every cell that failed there."""
    lines = []
    last = newest(rows)
    backends = {row.cell.backend for row in last if row.cell.backend}
    ran = {row.cell.backend for row in last if row.outcome == "ok" and row.cell.backend}
    if backends:
        lines.append(f"{len(ran)} of {len(backends)} backends exercised")
    skipped = {(row.cell.backend, row.reason) for row in last if row.outcome == "skipped"}
    lines += [f"{backend} was skipped: {reason}" for backend, reason in sorted(skipped)]
    failures: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in last:
        if row.outcome == "failed":
            failures[row.cell.backend, row.reason].append(row)
    for (backend, reason), cells in sorted(failures.items()):
        what = str(cells[0].cell) if len(cells) == 1 else f"{len(cells)} cells of {backend or 'any backend'}"
        lines.append(f"{what} failed: {reason}")
    return lines
