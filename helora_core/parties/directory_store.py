"""A store of one file per key."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec

from helora_core.errors import CorruptPayload, InvalidInput, LimitExceeded
from helora_core.files.atomic import replacing, sync_directory
from helora_core.parties.store import KEY, Write, checked

_MAGIC = b"HLST"
_HEADER = struct.Struct(">4sQ32s")
_JOURNAL, _LOCK = ".journal", ".lock"

SPARE_BYTES = 64 << 10
"""The end of a store's budget, which only small puts may use: a full store can still move marks and delete batches."""

SMALL_BYTES = 4 << 10
"""What a small put writes at most."""


class DirectoryStore:
    """One file per key, readable only by the user. A write is synced to the disk before it takes its place.

    Several writes go through a journal: after a crash it exists as a whole and is carried out again, or does not exist.

    Args:
        path: The directory; made if it does not exist. It is locked, against other processes and other stores of this
            one, until ``close`` or the end of the process.
        most_bytes: What its files may take together, the journal and both versions of a replaced value included, while
            they are written. None for no limit. Deletions are always possible.

    Raises:
        InvalidInput: It cannot be made or written to, or another store has locked it.
        CorruptPayload: Its journal is damaged.
    """

    def __init__(self, path: str | Path, *, most_bytes: int | None = None) -> None:
        self._path, self._most_bytes = Path(path), most_bytes
        self._sizes: dict[str, int] = {}
        self._settled = False
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
            self._settle()
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

    @property
    def used_bytes(self) -> int:
        """Bytes of its files, the journal of a put that failed aside."""
        return sum(self._sizes.values())

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none.

        Raises:
            CorruptPayload: Its file is damaged.
        """
        if not self._settled:
            self._settle()
        return self._read(checked(key))

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        if not self._settled:
            self._settle()
        return sorted(name for name in self._sizes if name.startswith(prefix))

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all or, after a crash, none.

        Raises:
            InvalidInput: The store is closed, or the disk is full: the old values remain, or all new ones take their
                place before the store is used again.
            LimitExceeded: The store may not have so many bytes. Nothing was written.
        """
        for key, _ in writes:
            checked(key)
        if self._lock < 0:
            raise InvalidInput("DirectoryStore: it is closed.", hint="Open the directory again.")
        if not self._settled:
            self._settle()
        journal = msgspec.msgpack.encode(list(writes)) if len(writes) > 1 else None
        sizes = self._sizes_after(writes, 0 if journal is None else _HEADER.size + len(journal))
        self._settled = False
        try:
            if journal is not None:
                self._place(_JOURNAL, journal)
                sync_directory(self._path)
            if writes:
                self._carry_out(writes)
            if journal is not None:
                (self._path / _JOURNAL).unlink()
        except OSError as error:
            raise InvalidInput(
                f"DirectoryStore: {self._path} cannot be written to ({error.strerror or error}).",
                hint="Look at the disk, and try again.",
            ) from error
        self._sizes, self._settled = sizes, True

    def _sizes_after(self, writes: Sequence[Write], journal: int) -> dict[str, int]:
        """The sizes of all files after the put, if there is room for it.

        Raises:
            LimitExceeded: There is not.
        """
        sizes, before, written = dict(self._sizes), self.used_bytes, 0
        now = most = before + journal
        for key, value in writes:
            old, new = sizes.pop(key, 0), 0
            if value is not None:
                new = sizes[key] = _HEADER.size + len(value)
            most = max(most, now + new)  # a value replaces the old one when it is whole
            now, written = now + new - old, written + new
        grows = now - journal > before
        if self._most_bytes is not None and grows:
            room = self._most_bytes - (0 if written <= SMALL_BYTES else SPARE_BYTES)
            if most > room:
                raise LimitExceeded(
                    f"DirectoryStore: {self._path} holds {before} bytes, and would hold {most} while this is written; "
                    f"it may hold {self._most_bytes}, of which {SPARE_BYTES} are for marks.",
                    hint="Use up or discard what is prepared, or raise most_bytes.",
                )
        return sizes

    def _carry_out(self, writes: Sequence[Write]) -> None:
        for key, value in writes:
            if value is None:
                with suppress(FileNotFoundError):
                    (self._path / key).unlink()
            else:
                self._place(key, value)
        sync_directory(self._path)

    def _settle(self) -> None:
        """Carry out the put that an error or a crash interrupted, if its journal is whole, and see what there is."""
        self._settled = False
        journal = self._read(_JOURNAL)
        if journal is not None:
            self._carry_out(msgspec.msgpack.decode(journal, type=list[Write]))
            (self._path / _JOURNAL).unlink()
        self._sizes = {each.name: each.stat().st_size for each in self._path.iterdir() if KEY.fullmatch(each.name)}
        self._settled = True

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
