"""Times of single operations by backend, ring and level: a row for each backend and ring.

``bench/operations.py`` says what they are, and times them in a process of its own for each row. A metric is
the median over the rounds, as ``rotate_ms@2``, or the minimum, as ``rotate_min_ms@2``; the number is the level, and one
prime more than that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import msgspec

from helora_harness.bench.record import Origin, Record, provenance
from helora_harness.checkouts import Asked
from helora_harness.rows import Cell, Row

SCHEMA = 1
DEFAULT_RINGS = (8192, 16384)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one backend at one ring.

    Attributes:
        backend: Name of the backend.
        ring_degree: N.
        row: The row, if it could be measured.
        refused: Why it could not.
        resumed: Whether the row was already in the file.
    """

    backend: str
    ring_degree: int
    row: Row | None = None
    refused: str = ""
    resumed: bool = False


def measure(
    backends: Sequence[str],
    rings: Sequence[int],
    levels: Collection[int],
    rounds: int,
    record: Record,
    of: Origin,
    spawn: Callable[[], Asked],
    on_round: Callable[[], object] = lambda: None,
) -> Iterator[Measured]:
    """Time the operations of each backend at each ring, unless the record has them, and append a row.

    Args:
        backends: Those that can be used here.
        rings: Ring degrees.
        levels: To time operations at; all of the chain if there are none.
        rounds: Samples of each operation.
        record: The file of rows.
        of: The code that processes run.
        spawn: Starts a process.
        on_round: Called after each round, and as often for what is not measured.
    """
    for backend in backends:
        for ring_degree in rings:
            row = _known(backend, ring_degree, levels, rounds, record, of)
            if row is not None:
                found = Measured(backend=backend, ring_degree=ring_degree, row=row, resumed=True)
                taken = 0
            else:
                worker = spawn()
                try:
                    answer, taken = _rounds(worker, backend, ring_degree, levels, rounds, on_round)
                finally:
                    worker.close()
                found = _found(backend, ring_degree, levels, of, answer)
                if found.row is not None:
                    record.add(found.row)
            for _ in range(rounds - taken):
                on_round()
            yield found


def _cell(backend: str) -> Cell:
    return Cell(backend=backend, packing="", shape="", tokens=1)


def _known(
    backend: str, ring_degree: int, levels: Collection[int], rounds: int, record: Record, of: Origin
) -> Row | None:
    """A row with at least these levels and rounds: a row's key does not know of rings, levels or rounds."""
    for row in reversed(record.known("micro", _cell(backend), of)):
        has = {int(name.partition("@")[2]) for name in row.metrics if "@" in name}
        wanted = set(levels) or set(range(row.provenance.levels + 1))
        if row.provenance.ring_degree == ring_degree and wanted <= has and row.metrics["rounds"] >= rounds:
            return row
    return None


def _rounds(
    worker: Asked,
    backend: str,
    ring_degree: int,
    levels: Collection[int],
    rounds: int,
    on_round: Callable[[], object],
) -> tuple[dict[str, Any], int]:
    depth = max(levels) if levels else None
    answer: dict[str, Any] = {}
    for number in range(rounds):
        answer = worker.ask(do="operations", backend=backend, ring=ring_degree, depth=depth)
        if "error" in answer:
            return answer, number
        on_round()
    return answer | {"rounds": rounds}, rounds


def _found(backend: str, ring_degree: int, levels: Collection[int], of: Origin, answer: dict[str, Any]) -> Measured:
    if "error" in answer:
        return Measured(backend=backend, ring_degree=ring_degree, refused=answer["error"])
    metrics: dict[str, int | float] = {"rounds": answer["rounds"]}
    for name, median_ns in answer["median_ns"].items():
        operation, _, level = name.partition("@")
        if not levels or int(level) in levels:
            metrics[f"{operation}_ms@{level}"] = round(median_ns / 1e6, 6)
            metrics[f"{operation}_min_ms@{level}"] = round(answer["minimum_ns"][name] / 1e6, 6)
    facts = provenance(of, backend, answer["plan"], secure=answer["provides_security"])
    row = Row(kind="micro", cell=_cell(backend), metrics=metrics, provenance=facts)
    return Measured(backend=backend, ring_degree=ring_degree, row=row)
