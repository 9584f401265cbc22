"""Result rows: one cell, its metrics and where they come from, a line of JSON each, in files that only grow.

A file is safe to append to from several processes and to resume after an interruption: a row is written whole or is
cut off by the next ``append_rows``. Rows whose provenance differs are never divided: ``comparable`` says why.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from helora_core.errors import HeloraError

SCHEMA = 1

Aware = Annotated[datetime, msgspec.Meta(tz=True)]
Shape = Annotated[str, msgspec.Meta(pattern=r"^([1-9]\d*:[1-9]\d*:[1-9]\d*)?$")]
Commit = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
MachineClass = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_]+-[1-9]\d*c(-[A-Za-z0-9_.]+)*$")]
MetricName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*(@\d+)?$")]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class RowsRefused(HeloraError):
    """A file of rows, or a row, is not one that this version reads and writes."""

    code: ClassVar[str] = "rows-refused"


class IncomparableRows(HeloraError):
    """A ratio was asked for of rows that were not measured in the same way."""

    code: ClassVar[str] = "incomparable-rows"


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was measured.

    Attributes:
        backend: Name of the backend; empty if the metrics are the same on every one, as a plan's counts are.
        packing: Name of the packing; empty for a single operation.
        shape: ``d_in:d_out:r`` of the module; empty for a single operation.
        tokens: Activation vectors in the batch.
        sanitized: Whether the plan keeps the weights private, so that the server sanitises its results.
    """

    backend: str
    packing: str
    shape: Shape
    tokens: Positive
    sanitized: bool = False

    def __str__(self) -> str:
        words = [self.backend, self.variant, self.shape, f"{self.tokens} token{'s' * (self.tokens != 1)}"]
        return " ".join(word for word in words if word)

    @property
    def variant(self) -> str:
        """The packing, and whether results are sanitised: what one line of a drawing is about."""
        return f"{self.packing}, sanitised" if self.sanitized else self.packing


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the metrics were measured.

    Attributes:
        commit: Full hash of the commit that ran.
        commit_date: When it was committed, with time zone.
        dirty: Whether there were uncommitted changes.
        plan_digest: Digest of the compiled plan.
        ring_degree: N.
        modulus_bits: Bit lengths of all primes, the special ones last.
        scale_bits: log2 of the scales of input, ``down`` and ``up``; one if they are equal.
        levels: Rescales that the chain allows.
        security: What the security table says, such as ``128 bits, classical``; ``none`` for an emulation.
        library: The library that did the arithmetic.
        library_version: Version of that library.
        threads: Number of threads that it could use.
        cpu_model: As the operating system names it.
        machine: Hardware class, such as ``x86_64-2c``: never the name of a host.
        python: Such as ``3.11.9``.
        os: Such as ``Linux``.
        date: When it was measured, with time zone.
    """

    commit: Commit
    commit_date: Aware
    dirty: bool
    plan_digest: str
    ring_degree: Positive
    modulus_bits: tuple[int, ...]
    scale_bits: tuple[float, ...]
    levels: Annotated[int, msgspec.Meta(ge=0)]
    security: str
    library: str
    library_version: str
    threads: Positive
    cpu_model: str
    machine: MachineClass
    python: str
    os: str
    date: Aware


Kind = Literal["counts", "e2e", "micro", "lm"]


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell, measured once.

    Attributes:
        kind: ``counts`` of a plan, the same on every machine; ``e2e`` of a whole run; ``micro`` of single operations;
            ``lm`` of a language model that generates.
        cell: What was measured.
        metrics: Numbers by name; names end in their unit. Empty unless ``outcome`` is ``ok``.
        provenance: How they were measured.
        outcome: ``failed`` if the cell should have run, ``skipped`` if it cannot run here, as without a library.
        reason: Why it failed or was skipped.
        schema: Version of this record.
    """

    kind: Kind
    cell: Cell
    metrics: dict[MetricName, int | float]
    provenance: Provenance
    outcome: Literal["ok", "failed", "skipped"] = "ok"
    reason: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if (self.outcome == "ok") != (not self.reason):
            raise ValueError("a row has a reason exactly if its outcome is not ok")
        if (self.outcome == "ok") != bool(self.metrics):
            raise ValueError("a row has metrics exactly if its outcome is ok")
        if self.provenance.machine == socket.gethostname():
            raise ValueError("machine is the name of this host, not a hardware class such as x86_64-2c")


class _Head(msgspec.Struct):
    schema: int


Key = tuple[str, ...]


def key(row: Row) -> Key:
    """Identifies a measurement: kind, cell, commit and where it ran, but not its date."""
    cell, of = row.cell, row.provenance
    where: tuple[object, ...] = () if row.kind == "counts" else (of.machine, of.cpu_model, of.threads, of.python)
    what = (row.kind, cell.backend, cell.variant, cell.shape, cell.tokens)
    return tuple(map(str, (*what, of.commit, of.dirty, of.library, of.library_version, *where)))


def latest(rows: Iterable[Row]) -> list[Row]:
    """The last one of rows with the same key, in the order of commits, then of the rows.

    Single operations at another ring or modulus are another measurement: no cell says which ciphertexts they took.
    """

    def of(row: Row) -> tuple[object, ...]:
        chain = (row.provenance.ring_degree, row.provenance.modulus_bits) if row.kind == "micro" else ()
        return key(row), chain

    return sorted({of(row): row for row in rows}.values(), key=lambda row: row.provenance.commit_date)


def read_rows(path: Path) -> list[Row]:
    """All rows of a file, in order.

    Raises:
        RowsRefused: It cannot be read, a line is cut off or is not a row, or a newer version wrote it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RowsRefused(
            f"{path}: cannot be read ({error.strerror or error}).", hint="Give a file that append_rows wrote."
        ) from error
    lines = data.split(b"\n")
    if lines.pop():
        raise RowsRefused(
            f"{path}: line {len(lines) + 1} is cut off: it has no end of line.",
            hint="The process that wrote it was interrupted; its next append_rows, or repair, cuts the line away.",
        )
    return [_row(line, f"{path}: line {number}") for number, line in enumerate(lines, start=1)]


def _row(line: bytes, where: str) -> Row:
    try:
        schema = msgspec.json.decode(line, type=_Head).schema
        if schema > SCHEMA:
            raise RowsRefused(
                f"{where} has schema {schema}, and this version reads up to {SCHEMA}.",
                hint="Update helora, or leave those rows out.",
            )
        return msgspec.json.decode(line, type=Row)
    except msgspec.DecodeError as error:
        raise RowsRefused(
            f"{where} is not a result row: {error}.", hint="Delete that line, and measure its cell again."
        ) from error


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file, all of them by one write, and first cut off a line that an interruption left unfinished.

    Raises:
        RowsRefused: A row breaks the schema, or the file cannot be written; nothing is added then.
    """
    lines = [msgspec.json.encode(row) for row in rows]
    for number, line in enumerate(lines, start=1):
        _row(line, f"row {number} of {len(lines)}")  # rows that could not be read back are not written
    try:
        with locked(path) as file:
            cut(file, Row)
            os.write(file, b"".join(line + b"\n" for line in lines))
            os.fsync(file)
    except OSError as error:
        raise RowsRefused(
            f"{path}: cannot be written ({error.strerror or error}).",
            hint="Choose a path in an existing directory that you may write to, on a disk with room.",
        ) from error


def repair(path: Path) -> str:
    """Cut off a line that an interruption left unfinished; returns the cut part, if any. For resuming a sweep."""
    if not path.exists():
        return ""
    with locked(path) as file:
        return cut(file, Row).decode(errors="replace")


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """A descriptor of the file, which no other process appends to meanwhile."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        try:
            import fcntl
        except ImportError:  # on systems without this lock, only one process at a time may append
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def cut(file: int, line: type) -> bytes:
    """Cut the file after its last end of line; a last line that only lacks the end of line gets it instead."""
    size = os.lseek(file, 0, os.SEEK_END)
    os.lseek(file, 0, os.SEEK_SET)
    data = b""
    while len(data) < size and (more := os.read(file, size - len(data))):
        data += more
    tail = data[data.rfind(b"\n") + 1 :]
    if not tail:
        return b""
    try:
        msgspec.json.decode(tail, type=line)
    except msgspec.DecodeError:
        os.ftruncate(file, size - len(tail))
        return tail
    os.write(file, b"\n")
    return b""


_PLAN = ("ring_degree", "modulus_bits", "scale_bits", "levels", "security")
_LIBRARY = ("library", "library_version")
_MACHINE = ("machine", "cpu_model", "threads", "python", "os")

Across = Literal["commit", "backend", "packing"]
_COMMITS: tuple[Across, ...] = ("commit",)


def comparable(a: Row, b: Row, *, across: Collection[Across] = _COMMITS) -> str | None:
    """Why the metrics of two rows must not be divided by each other; None if they may.

    Args:
        a: One row.
        b: The other.
        across: The subject of the comparison, which may differ. Parameters may not: with different ones, these would be
            comparisons of two things at once.
    """
    for row in (a, b):
        if row.outcome != "ok":
            return f"{row.cell} {'failed' if row.outcome == 'failed' else 'was skipped'}: {row.reason}"
        if row.provenance.dirty:
            return f"{row.cell} ran with changes that commit {row.provenance.commit[:8]} does not have"
    if a.kind != b.kind:
        return f"one row is of kind {a.kind}, the other of {b.kind}"
    for name in ("backend", "packing", "shape", "tokens", "sanitized"):
        if name not in across and getattr(a.cell, name) != getattr(b.cell, name):
            return f"{name} is {getattr(a.cell, name)} in one row and {getattr(b.cell, name)} in the other"
    if "commit" not in across and a.provenance.commit != b.provenance.commit:
        return f"commit is {a.provenance.commit[:8]} in one row and {b.provenance.commit[:8]} in the other"
    fields = [*_PLAN, *(() if "backend" in across else _LIBRARY), *(() if a.kind == "counts" else _MACHINE)]
    if not {"commit", "packing"} & set(across):
        fields.append("plan_digest")
    for name in fields:
        x, y = getattr(a.provenance, name), getattr(b.provenance, name)
        if x != y:
            return f"{name.replace('_', ' ')} is {_words(x)} in one row and {_words(y)} in the other"
    return None


def _words(value: object) -> str:
    return "+".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)


def ratio(a: Row, b: Row, name: str, *, across: Collection[Across] = _COMMITS) -> float:
    """Metric ``name`` of ``a`` over that of ``b``.

    Raises:
        IncomparableRows: Their provenance differs, one lacks the metric, or it is zero in ``b``.
    """
    reason = comparable(a, b, across=across)
    if reason is None and not (name in a.metrics and name in b.metrics):
        reason = f"{name} is missing in one of them"
    if reason is None and not b.metrics[name]:
        reason = f"{name} is zero in the second"
    if reason is not None:
        raise IncomparableRows(
            f"The rows have no ratio: {reason}.", hint="Measure both in the same way, or compare their plain values."
        )
    return a.metrics[name] / b.metrics[name]
