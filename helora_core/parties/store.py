"""Where a party keeps what has to outlive a crash. The parties open no files themselves: they are given a ``Store``.

``MemoryStore`` lasts as long as the process, ``DirectoryStore`` keeps one file per key, ``Deferred`` gives writes out
as data, for callers that have a database or must not wait for a disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import msgspec

from helora_core.errors import CorruptPayload, InvalidInput, NotDurable
from helora_core.files.atomic import replacing, sync_directory


class Write(NamedTuple):
    """A value to keep under a key, in place of the old one; None deletes it.

    Keys have 1 to 200 characters of a–z, 0–9, ``.``, ``-`` and ``_``, and do not begin with ``.``.
    """

    key: str
    value: bytes | None


class Store(Protocol):
    """Values by key. One party uses it at a time."""

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none.

        Raises:
            CorruptPayload: It is damaged.
        """
        ...

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        ...

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all or, after a crash, none; durable when it returns."""
        ...


class MemoryStore:
    """A store that lasts as long as the process.

    Args:
        values: The initial values.
    """

    def __init__(self, values: Mapping[str, bytes] | None = None) -> None:
        self._values = dict(values or {})

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none."""
        return self._values.get(key)

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        return sorted(key for key in self._values if key.startswith(prefix))

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all."""
        for key, value in writes:
            if value is None:
                self._values.pop(_checked(key), None)
            else:
                self._values[_checked(key)] = value


class Deferred(MemoryStore):
    """A store whose writes the caller makes durable: they wait in ``pending``, oldest first.

    A party sends no message before the writes that have to precede it are acknowledged: ``Request.durable`` has those
    that its message waits for, ``Session.durable`` all of them.

    Args:
        values: The values that were made durable before.
    """

    def __init__(self, values: Mapping[str, bytes] | None = None) -> None:
        super().__init__(values)
        self._pending: list[Write] = []
        self._acknowledged = 0

    @property
    def put(self) -> int:
        """Number of writes so far."""
        return self._acknowledged + len(self._pending)

    def put_many(self, writes: Sequence[Write]) -> None:
        """Note the writes."""
        super().put_many(writes)
        self._pending += writes

    def pending(self, until: int | None = None) -> tuple[Write, ...]:
        """Writes that are not acknowledged, up to the ``until``-th; all if None. They have to be done in this order."""
        return tuple(self._pending[: None if until is None else max(0, until - self._acknowledged)])

    def written(self, until: int | None = None) -> None:
        """Acknowledge the writes of ``pending``: they are durable now."""
        made = len(self.pending(until))
        self._acknowledged += made
        del self._pending[:made]


class Ticket:
    """The writes that one message waits for; none if the store writes immediately.

    Args:
        store: The party's store; all writes until now have to precede the message.
    """

    def __init__(self, store: Store | None) -> None:
        self._deferred = store if isinstance(store, Deferred) else None
        self._until = self._deferred.put if self._deferred else 0

    @property
    def durable(self) -> tuple[Write, ...]:
        """Writes that have to be durable first, in order."""
        return self._deferred.pending(self._until) if self._deferred else ()

    def written(self) -> None:
        """Acknowledge them."""
        if self._deferred:
            self._deferred.written(self._until)

    def require(self, who: str) -> None:
        """Refuse to go on before the writes are acknowledged.

        Raises:
            NotDurable: They are not acknowledged.
        """
        if waiting := len(self.durable):
            raise NotDurable(
                f"{who}: {waiting} writes have to be durable before its message may be sent.",
                hint="Do the writes of `durable`, in order, call `written()`, and ask again.",
            )


_MAGIC = b"HLST"
_HEADER = struct.Struct(">4sQ32s")
_KEY = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,199}")
_JOURNAL, _LOCK = ".journal", ".lock"


class DirectoryStore:
    """One file per key, readable only by the user. A write is synced to the disk before it takes its place.

    Several writes go through a journal: after a crash it exists as a whole and is carried out again, or does not exist.

    Args:
        path: The directory; made if it does not exist. It is locked, against other processes and other stores of this
            one, until ``close`` or the end of the process.

    Raises:
        InvalidInput: It cannot be made or written to, or another store has locked it.
        CorruptPayload: Its journal is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise InvalidInput(
                f"DirectoryStore: {self._path} cannot be used ({error.strerror or error}).",
                hint="Choose a directory that you may write to.",
            ) from error
        try:
            _lock(self._lock, self._path)
            for unfinished in self._path.glob(".*.part"):
                unfinished.unlink()
            self._finish_journal()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> DirectoryStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none.

        Raises:
            CorruptPayload: Its file is damaged.
        """
        return self._read(_checked(key))

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        names = (each.name for each in self._path.iterdir())
        return sorted(name for name in names if name.startswith(prefix) and _KEY.fullmatch(name))

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all or, after a crash, none.

        Raises:
            InvalidInput: The disk is full, or the store is closed; the old values remain.
        """
        for key, _ in writes:
            _checked(key)
        if self._lock < 0:
            raise InvalidInput("DirectoryStore: it is closed.", hint="Open the directory again.")
        if len(writes) > 1:
            self._place(_JOURNAL, msgspec.msgpack.encode(list(writes)))
            sync_directory(self._path)
            self._carry_out(writes)
            (self._path / _JOURNAL).unlink()
        elif writes:
            self._carry_out(writes)

    def _carry_out(self, writes: Sequence[Write]) -> None:
        for key, value in writes:
            if value is None:
                with suppress(FileNotFoundError):
                    (self._path / key).unlink()
            else:
                self._place(key, value)
        sync_directory(self._path)

    def _finish_journal(self) -> None:
        journal = self._read(_JOURNAL)
        if journal is not None:
            self._carry_out(msgspec.msgpack.decode(journal, type=list[Write]))
            (self._path / _JOURNAL).unlink()

    def _place(self, name: str, value: bytes) -> None:
        with replacing(self._path / name, private=True) as file:
            file.write(_HEADER.pack(_MAGIC, len(value), hashlib.sha256(value).digest()))
            file.write(value)

    def _read(self, name: str) -> bytes | None:
        try:
            data = (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        if len(data) >= _HEADER.size:
            magic, length, digest = _HEADER.unpack_from(data)
            value = data[_HEADER.size :]
            if magic == _MAGIC and len(value) == length and hashlib.sha256(value).digest() == digest:
                return value
        raise CorruptPayload(
            f"DirectoryStore: {self._path / name} is torn or was altered.",
            hint="The disk lost a write, or the file was changed. Remove the whole directory and prepare again; "
            "never put back an older copy of it.",
        )


def under(store: Store | None, prefix: str) -> list[bytes]:
    """The values whose keys begin with the prefix."""
    values = [store.get(key) for key in store.names(prefix)] if store else []
    return [value for value in values if value is not None]


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise InvalidInput("Store: a key is too long or has characters that are not allowed.", hint="See Write.")
    return key


def _lock(file: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows refuses to replace a file that another process has open
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InvalidInput(
            f"DirectoryStore: {path} is in use.",
            hint="One party uses a store: close it, or take another.",
        ) from error
