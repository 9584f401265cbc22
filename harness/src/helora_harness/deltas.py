"""Result rows of a history, a line for each commit with what changed since the line before.

Counts rarely change, and a row of all its fields is 800 bytes: eight a commit fill a megabyte in 170 commits. Here a
commit at which nothing changed takes one short line. A line is an array: commit; its date and that of the measurement,
each in seconds after that of the line before; a checksum of the rows and the line before; and two parts that are left
out where they say nothing: by the name of a cell, the fields that are not what they were the last time, null for one
that is gone; and the names of all cells in order, if they are not those of the line before.

The checksum makes a line that was lost, edited or merged out of order an error and not a wrong figure.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from helora_harness.rows import Row, RowsRefused, cut, locked

SUFFIX = ".deltas"
SCHEMA = 1
_HEAD = msgspec.json.encode({"format": "helora-deltas", "schema": SCHEMA})
_APART = ("provenance.commit", "provenance.commit_date", "provenance.date")
"""Fields that a line has once, for all its rows."""

Fields = dict[str, Any]


class _Line(msgspec.Struct, frozen=True, array_like=True):
    commit: str
    commit_seconds: int
    seconds: int
    checksum: str
    changed: dict[str, Fields] = {}
    cells: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        parts = list(msgspec.structs.astuple(self))
        while not parts[-1]:
            parts.pop()
        return msgspec.json.encode(parts)


class _State:
    """The state after the lines so far."""

    def __init__(self) -> None:
        self.cells: tuple[str, ...] = ()
        self.fields: dict[str, Fields] = {}
        self.seconds = (0, 0)
        self.checksum = ""

    def line(self, rows: list[Row]) -> _Line:
        """The line for the rows of one commit after the lines so far; it is added to the state."""
        of, named = rows[0].provenance, {_name(row): _flat(row) for row in rows}
        if len(named) < len(rows):
            raise ValueError(f"two rows of one cell at commit {of.commit}")
        before, self.seconds = self.seconds, (_seconds(of.commit_date), _seconds(of.date))
        changed = {name: _changes(self.fields.get(name, {}), fields) for name, fields in named.items()}
        cells = tuple(named)
        line = _Line(
            commit=of.commit,
            commit_seconds=self.seconds[0] - before[0],
            seconds=self.seconds[1] - before[1],
            checksum=self._checksum(of.commit, named.values()),
            changed={name: change for name, change in changed.items() if change},
            cells=() if cells == self.cells else cells,
        )
        self.cells = cells
        self.fields |= named
        return line

    def rows(self, line: _Line) -> list[Row]:
        """The rows of the next line."""
        self.cells = line.cells or self.cells
        for name, change in line.changed.items():
            merged = self.fields.get(name, {}) | change
            self.fields[name] = {field: value for field, value in merged.items() if value is not None}
        self.seconds = (self.seconds[0] + line.commit_seconds, self.seconds[1] + line.seconds)
        found = [self.fields[name] for name in self.cells]
        if self._checksum(line.commit, found) != line.checksum:
            raise ValueError("its checksum is of other rows: it, or a line before it, was changed or is missing")
        apart = dict(zip(_APART, (line.commit, *map(_time, self.seconds)), strict=True))
        return [_row(fields | apart) for fields in found]

    def _checksum(self, commit: str, rows: Iterable[Fields]) -> str:
        """Checksum of all fields of the rows, in any order, and of the line before."""
        said = msgspec.json.encode([self.checksum, commit, self.seconds, list(rows)], order="sorted")
        self.checksum = hashlib.sha256(said).hexdigest()[:6]
        return self.checksum


def read_deltas(path: Path) -> list[Row]:
    """All rows of a file, in order.

    Raises:
        RowsRefused: It cannot be read, a line is cut off or changed, or a newer version wrote it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RowsRefused(
            f"{path}: cannot be read ({error.strerror or error}).", hint="Give a file that append_deltas wrote."
        ) from error
    return [row for rows in _decoded(data, str(path), _State()) for row in rows]


def _decoded(data: bytes, where: str, state: _State) -> Iterator[list[Row]]:
    head, *lines = data.split(b"\n")
    if head != _HEAD:
        raise RowsRefused(
            f"{where}: line 1 is not {_HEAD.decode()}.", hint="Update helora, or give a file that it wrote."
        )
    if not lines or lines.pop():
        raise RowsRefused(
            f"{where}: its last line is cut off: it has no end of line.",
            hint="The process that wrote it was interrupted; the next `helora bench grow` cuts the line away.",
        )
    for number, line in enumerate(lines, start=2):
        try:
            yield state.rows(msgspec.json.decode(line, type=_Line))
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            raise RowsRefused(
                f"{where}: line {number} cannot be read: {error}.", hint="Take the file from git as it was before."
            ) from error


def append_deltas(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file by one write; those of one commit and date become one line.

    Raises:
        RowsRefused: The file cannot be read or written; nothing is added then.
    """
    try:
        with locked(path) as file:
            cut(file, _Line)
            data = path.read_bytes()
            state = _State()
            for _ in _decoded(data, str(path), state) if data else ():
                pass
            lines = [] if data else [_HEAD]
            lines += [state.line(list(group)).encoded() for _, group in groupby(rows, _one_line)]
            os.write(file, b"".join(line + b"\n" for line in lines))
            os.fsync(file)
    except (OSError, ValueError) as error:
        raise RowsRefused(
            f"{path}: cannot be written ({error}).",
            hint="Choose a path in an existing directory that you may write to, on a disk with room.",
        ) from error


def _one_line(row: Row) -> tuple[object, ...]:
    return row.provenance.commit, row.provenance.commit_date, row.provenance.date


def _name(row: Row) -> str:
    cell = row.cell
    return " ".join(str(word) or "-" for word in (row.kind, cell.backend, cell.variant, cell.shape, cell.tokens))


def _flat(row: Row) -> Fields:
    """Its fields by dotted name, except those that a line has once."""
    flat: Fields = {}
    for name, value in msgspec.to_builtins(row).items():
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return {name: value for name, value in flat.items() if name not in _APART}


def _row(flat: Fields) -> Row:
    nested: dict[str, Any] = {"metrics": {}}
    for name, value in flat.items():
        group, _, key = name.partition(".")
        if key:
            nested.setdefault(group, {})[key] = value
        else:
            nested[name] = value
    return msgspec.convert(nested, type=Row)


def _changes(before: Fields, now: Fields) -> Fields:
    gone: Fields = dict.fromkeys(before.keys() - now.keys())
    say = msgspec.json.encode  # 2 and 2.0 are equal, and stand otherwise in a row
    return {name: value for name, value in now.items() if name not in before or say(before[name]) != say(value)} | gone


def _seconds(when: datetime) -> int:
    if when.microsecond:
        raise ValueError(f"the date {when} has fractions of a second")
    return int(when.timestamp())


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()
