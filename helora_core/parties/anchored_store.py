"""A store that is found out when an older copy of it is put back, or another copy is opened.

A store cannot know by itself that it is old. An *anchor* is a second, small place which no backup of the store brings
back: another disk, a row of a database, a TPM's memory. Each put is numbered, and

1. the values are written, in one atomic put, with a record: the number, a digest of all that the store now holds, and
   the digest of the record before;
2. the anchor is moved from the record before to this one, by compare-and-set;
3. only then does the put return, so that a party's message can leave.

A store opens if its record is the anchor's, or follows it directly: then a crash came between 1 and 2, no message
depended on that put, and the anchor is moved now. Any other store is refused. Copies that were opened meanwhile have
moved the anchor, so that the one which moves it first goes on, and the others can neither write nor be opened.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Protocol

import msgspec

from helora_core.errors import CorruptPayload, InvalidInput, RolledBack
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.parties.store import Deferred, Store, WrappedStore, Write, innermost

_RECORD = "anchored"
_EPOCH_BYTES, _DIGEST_BYTES = 16, 32

_Number = Annotated[int, msgspec.Meta(ge=0)]
_Epoch = Annotated[bytes, msgspec.Meta(min_length=_EPOCH_BYTES, max_length=_EPOCH_BYTES)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=_DIGEST_BYTES, max_length=_DIGEST_BYTES)]


class Anchor(Protocol):
    """Some hundred bytes that outlive the store, and that no backup of the store brings back."""

    def read(self) -> bytes | None:
        """What it holds; None at first."""
        ...

    def replace(self, old: bytes | None, new: bytes) -> bool:
        """Hold ``new``, durably, if it holds ``old``: atomic, against other processes too. False if it does not."""
        ...


class StoreAnchor:
    """An anchor in a store: one on another disk, which only one process opens at a time, as ``DirectoryStore`` ensures.

    Args:
        store: Where it is kept. It may hold several.
        name: Which one it is.
    """

    def __init__(self, store: Store, name: str = "store") -> None:
        self._store, self._key = store, f"anchor.{name}"

    def read(self) -> bytes | None:
        """What it holds; None at first."""
        return self._store.get(self._key)

    def replace(self, old: bytes | None, new: bytes) -> bool:
        """Hold ``new``, durably, if it holds ``old``. False if it does not."""
        if self.read() != old:
            return False
        self._store.put_many([Write(self._key, new)])
        return True


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state of a store after one put.

    Attributes:
        epoch: Drawn when the store was begun or voided.
        number: Of puts.
        before: What the anchor held before; empty at first.
        contents: SHA-256 over the names and values.
    """

    epoch: _Epoch
    number: _Number
    before: bytes
    contents: _Digest

    @property
    def anchor(self) -> bytes:
        """What the anchor holds once it stands for this record."""
        digest = hashlib.sha256(msgspec.msgpack.encode(self)).digest()
        return msgspec.msgpack.encode(_Held(self.epoch, self.number, digest))


class _Held(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the anchor holds: of a record its epoch, its number and its SHA-256."""

    epoch: _Epoch
    number: _Number
    digest: _Digest


class AnchoredStore(WrappedStore):
    """Refuses a store that is older than its anchor says. Opening it reads all values once.

    Around a ``SealedStore`` nobody without its key can make a store that the anchor accepts, not even of old and new
    files. Around an unsealed one accidents are found.

    Args:
        store: The store, which writes immediately. What it holds is accepted as it is if neither it nor the anchor was
            used like this before.
        anchor: The anchor, of this store only.

    Raises:
        RolledBack: It is an older copy, parts of it are older or were changed, or another copy was opened since.
        InvalidInput: The store is ``Deferred``.
        CorruptPayload: A value, or what the anchor holds, is damaged.
    """

    def __init__(self, store: Store, anchor: Anchor) -> None:
        super().__init__(store)
        _require_immediate(store)
        self._anchor = anchor
        self._sure = False
        self._digests: dict[str, bytes] = {}
        self._record = self._verified()

    @property
    def epoch(self) -> bytes:
        """16 bytes that are drawn anew when a store is voided."""
        return self._record.epoch

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none."""
        return None if key == _RECORD else self.inner.get(key)

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        return [name for name in self.inner.names(prefix) if name != _RECORD]

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all or, after a crash, none, and move the anchor.

        Raises:
            RolledBack: Another copy of the store was opened since. What was written counts for nothing.
            InvalidInput, …: As the store or the anchor raises them. The next put finds out how far this one came.
        """
        if not writes:
            return
        if any(key == _RECORD for key, _ in writes):
            raise InvalidInput(f"AnchoredStore: the key {_RECORD} is its own.", hint="Choose another one.")
        if not self._sure:
            self._record = self._verified()
        held = self._anchor.read()
        if held is None or held != self._record.anchor:
            raise _older(_held(held), self._record)
        digests = dict(self._digests)
        for key, value in writes:
            if value is None:
                digests.pop(key, None)
            else:
                digests[key] = hashlib.sha256(value).digest()
        record = _Record(self._record.epoch, self._record.number + 1, held, _digest(digests))
        self._sure = False
        self.inner.put_many([*writes, Write(_RECORD, msgspec.msgpack.encode(record))])
        _move(self._anchor, record)
        self._record, self._digests, self._sure = record, digests, True

    def _verified(self) -> _Record:
        """The store's record, if the anchor allows it. If a crash or an error left the anchor behind, it is moved."""
        self._digests = {name: hashlib.sha256(self.inner.get(name) or b"").digest() for name in self.names("")}
        held, record = self._anchor.read(), _record_of(self.inner)
        if held is None and record is None:
            record = _Record(secrets.token_bytes(_EPOCH_BYTES), 0, b"", _digest(self._digests))
            self.inner.put_many([Write(_RECORD, msgspec.msgpack.encode(record))])
        if record is None or (held != record.anchor and record.before != (held or b"")):
            raise _older(_held(held), record)
        if record.contents != _digest(self._digests):
            raise _refused("some of its values are older than the others, missing or changed")
        if held != record.anchor:
            _move(self._anchor, record)
        self._sure = True
        return record


def void(store: Store, anchor: Anchor | None = None) -> None:
    """Delete all that a store holds: pools, batches and marks. Open it anew afterwards.

    For an operator who put a store back from a backup, or whose store is refused. Clients lose their pools, and what
    clients prepared with a server is void: they discard it and prepare again. With its anchor, an ``AnchoredStore``
    begins a new epoch, which refuses every copy that was made before. After a crash it is done or can be done again.

    Args:
        store: The store below the ``AnchoredStore``, if there is one.
        anchor: The anchor, if there is one.

    Raises:
        InvalidInput: There is an anchor, and the store is ``Deferred``.
        RolledBack: Another process moved the anchor at the same time.
    """
    deletions = [Write(name, None) for name in store.names("") if name != _RECORD]
    if anchor is None:
        store.put_many([*deletions, Write(_RECORD, None)])
        return
    _require_immediate(store)
    held = anchor.read()
    record = _Record(secrets.token_bytes(_EPOCH_BYTES), 0, held or b"", _digest({}))
    store.put_many([*deletions, Write(_RECORD, msgspec.msgpack.encode(record))])
    _move(anchor, record)


def _move(anchor: Anchor, record: _Record) -> None:
    if not anchor.replace(record.before or None, record.anchor):
        raise _older(_held(anchor.read()), record)


def _digest(digests: Mapping[str, bytes]) -> bytes:
    """SHA-256 over names, which have no zero byte, and digests of values."""
    return hashlib.sha256(b"".join(name.encode() + b"\0" + digests[name] for name in sorted(digests))).digest()


def _record_of(store: Store) -> _Record | None:
    kept = store.get(_RECORD)
    try:
        return None if kept is None else strict_msgpack.decode(kept, _Record)
    except Malformed as error:
        raise CorruptPayload("AnchoredStore: the store's record is damaged.", hint=_HINT) from error


def _held(held: bytes | None) -> _Held | None:
    try:
        return None if held is None else strict_msgpack.decode(held, _Held)
    except Malformed as error:
        raise CorruptPayload("AnchoredStore: what the anchor holds is damaged.", hint=_HINT) from error


def _require_immediate(store: Store) -> None:
    if isinstance(innermost(store), Deferred):
        raise InvalidInput(
            "AnchoredStore: a Deferred store gives its writes out, and the anchor would be moved before they are made.",
            hint="Implement Store on the database, or use DirectoryStore.",
        )


_HINT = (
    "Void it (helora_core.parties.anchored_store.void): a client's pools are dropped, a server's batches are void, and "
    "clients prepare again. Never copy the anchor."
)


def _older(held: _Held | None, record: _Record | None) -> RolledBack:
    if held is None:
        return _refused("its anchor is empty, although the store was anchored before")
    if record is None:
        return _refused(f"it has no record, and its anchor stands at put {held.number}")
    if held.epoch != record.epoch:
        return _refused("it was voided since, or this is another store's anchor")
    if record.number < held.number:
        return _refused(f"it is a copy from put {record.number}, and its anchor stands at put {held.number}")
    return _refused(f"another copy of it was opened, and went on from put {held.number} by itself")


def _refused(why: str) -> RolledBack:
    return RolledBack(f"AnchoredStore: this store could bring used indices back: {why}.", hint=_HINT)
