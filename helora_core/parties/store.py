"""Where a party keeps what has to outlive a crash. The parties open no files themselves: they are given a ``Store``.

``MemoryStore`` lasts as long as the process, ``Deferred`` gives writes out as data, for callers that have a database or
must not wait for a disk, and ``DirectoryStore`` (in a module of its own) keeps one file per key. A ``WrappedStore``
passes on to another one: ``SealedStore`` encrypts, ``AnchoredStore`` finds out that an older copy was put back.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from helora_core.errors import InvalidInput, NotDurable

KEY = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,199}")


class Write(NamedTuple):
    """A value to keep under a key, in place of the old one; None deletes it.

    Keys have 1 to 200 characters of a–z, 0–9, ``.``, ``-`` and ``_``, and do not begin with ``.``.
    """

    key: str
    value: bytes | None


class Store(Protocol):
    """Values by key. One party uses it at a time; one that passes on to another store derives from ``WrappedStore``."""

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
                self._values.pop(checked(key), None)
            else:
                self._values[checked(key)] = value


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


class WrappedStore:
    """A store that passes everything on to another one; what derives from it changes what passes.

    Attributes:
        inner: The other store.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none."""
        return self.inner.get(key)

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        return self.inner.names(prefix)

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all or, after a crash, none."""
        self.inner.put_many(writes)


class SharedStore(WrappedStore):
    """A store that several threads of one party use: one call at a time.

    Args:
        inner: The other store.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none."""
        with self._lock:
            return self.inner.get(key)

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        with self._lock:
            return self.inner.names(prefix)

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all or, after a crash, none."""
        with self._lock:
            self.inner.put_many(writes)


def innermost(store: Store) -> Store:
    """The store below all that wrap it."""
    while isinstance(store, WrappedStore):
        store = store.inner
    return store


class Ticket:
    """The writes that one message waits for; none if the store writes immediately.

    Args:
        store: The party's store; all writes until now have to precede the message.
    """

    def __init__(self, store: Store | None) -> None:
        kept = None if store is None else innermost(store)
        self._deferred = kept if isinstance(kept, Deferred) else None
        self._until = 0 if self._deferred is None else self._deferred.put

    @property
    def durable(self) -> tuple[Write, ...]:
        """Writes that have to be durable first, in order."""
        return () if self._deferred is None else self._deferred.pending(self._until)

    def written(self) -> None:
        """Acknowledge them."""
        if self._deferred:
            self._deferred.written(self._until)

    def require(self, who: str) -> None:
        """Refuse to go on before the writes are acknowledged.

        Raises:
            NotDurable: They are not acknowledged.
        """
        if self._deferred is not None and (waiting := len(self.durable)):
            raise NotDurable(
                f"{who}: {waiting} writes have to be durable before its message may be sent.",
                hint="Do the writes of `durable`, in order, call `written()`, and ask again.",
            )


def under(store: Store | None, prefix: str) -> list[bytes]:
    """The values whose keys begin with the prefix."""
    values = [store.get(key) for key in store.names(prefix)] if store else []
    return [value for value in values if value is not None]


def checked(key: str) -> str:
    """The key, if it may be one.

    Raises:
        InvalidInput: It may not.
    """
    if not KEY.fullmatch(key):
        raise InvalidInput("Store: a key is too long or has characters that are not allowed.", hint="See Write.")
    return key
