"""How many queries each client has had of each module, counted before anything is computed, and through restarts.

Δ is linear in x: whoever has answers to d_in independent x has up · down. Nothing that is computed under encryption
changes that; a server can only count. It counts by who asks: the name of a bearer token, or, where nobody is asked for
one, the digest of the evaluation keys. *The latter bounds a client's own program, and nobody who means to copy the
adapter:* such a one makes other keys.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from helora_core.errors import CorruptPayload, LimitExceeded
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.parties.store import SharedStore, Store, Write
from helora_serve.catalogue import Version
from helora_serve.offer import queries_to_copy

AHEAD = 64
"""Queries that are written down as had with one synced write: after a crash up to so many count that were not had."""

MOST_ACCOUNTS = 4096
"""Clients whose counts stay in memory when they have no session. Without a store others are forgotten."""

AHEAD_NAME = ".ahead"
"""The ending of an adapter's name that has the plans which run ahead of time: it counts as the adapter itself."""


class Usage(NamedTuple):
    """What a client has had.

    Attributes:
        queries: Of the module that it asked most.
        limit: How many it may have of each.
        share_of_copy: Of the queries that would give a module away, the share that it has had; the largest.
    """

    queries: int
    limit: int | None
    share_of_copy: float

    @property
    def notable(self) -> bool:
        """Whether half of what is allowed, or of what would give a module away, is used."""
        return self.share_of_copy >= 0.5 or (self.limit is not None and 2 * self.queries >= self.limit)


class Account:
    """The queries of one client; its sessions share it, in any threads.

    Args:
        store: Where it outlives the server.
        who: The client, as ``Budget.account`` names it.
        limit: Queries of each module that it may ever have.

    Attributes:
        who: The same.
        most: Of the module that it asked most.
    """

    def __init__(self, store: Store | None, who: str, limit: int | None) -> None:
        self.who = who
        self._store, self._key, self._limit = store, f"queries.{who}", limit
        self._lock = threading.Lock()
        self._reserved = _read(store.get(self._key) if store else None)
        self._had = dict(self._reserved)
        self.most = max(self._had.values(), default=0)

    def admit(self, parts: Sequence[str], tokens: int) -> None:
        """Count queries of modules.

        Raises:
            LimitExceeded: There would be more than allowed. None is counted.
            HeloraError: As the store raises it. None is counted.
        """
        with self._lock:
            after = {part: self._had.get(part, 0) + tokens for part in parts}
            most = max(after.values(), default=0)
            if self._limit is not None and most > self._limit:
                raise LimitExceeded(
                    f"Server: this client has had {most - tokens} queries of a module, and may have {self._limit}.",
                    hint="Each is a query of the adapter, and enough of them give it away. Its owner may raise the "
                    "limit; waiting does not help.",
                )
            if self._store is not None and any(count > self._reserved.get(part, 0) for part, count in after.items()):
                reserved = {part: count + AHEAD for part, count in {**self._had, **after}.items()}
                self._store.put_many([Write(self._key, msgspec.msgpack.encode(reserved))])
                self._reserved = reserved
            self._had = {**self._had, **after}
            self.most = max(self.most, most)

    def settle(self) -> None:
        """Write down what was had, and no more: nothing will be counted here any longer. Errors are the store's."""
        with self._lock:
            if self._store is not None and self._had != self._reserved:
                self._store.put_many([Write(self._key, msgspec.msgpack.encode(self._had))])
                self._reserved = dict(self._had)

    def usage(self, copies: Mapping[str, int]) -> Usage:
        """What the client has had.

        Args:
            copies: The queries that would give each module away.
        """
        had = self._had  # another one once there are more: nobody waits for a write here
        shares = (count / copies[part] for part, count in had.items() if part in copies)
        return Usage(max(had.values(), default=0), self._limit, max(shares, default=0.0))


class Budget:
    """The accounts of all clients.

    Args:
        store: Where they outlive the server; None to lose them with it.
        limit: Queries of each module that a client may ever have; None for any number.
    """

    def __init__(self, store: Store | None, limit: int | None) -> None:
        self._store, self._limit = None if store is None else SharedStore(store), limit
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, Account] = WeakValueDictionary()
        self._recent: OrderedDict[str, Account] = OrderedDict()

    def account(self, who: str) -> Account:
        """The account of a client.

        Args:
            who: 32 hexadecimal digits.
        """
        with self._lock:
            account = self._open.get(who)
            if account is None:
                account = self._open[who] = Account(self._store, who, self._limit)
            self._recent[who] = account
            self._recent.move_to_end(who)
            if len(self._recent) > MOST_ACCOUNTS:
                self._recent.popitem(last=False)
            return account

    def close(self) -> None:
        """Write down what all clients had. Errors are the store's."""
        with self._lock:
            accounts = list(self._open.values())
        for account in accounts:
            account.settle()


def counted(part: str) -> str:
    """The name that a module's queries are counted by: the same for its plans that run ahead of time."""
    adapter, slash, name = part.rpartition("/")
    return f"{adapter.removesuffix(AHEAD_NAME)}{slash}{name}"


def parts_of(version: Version) -> dict[str, tuple[str, ...]]:
    """By the name of each served module those that its queries are counted by."""
    modules = version.server.served.modules
    return {name: tuple(counted(part.name) for part in many[0].parts) for name, many in modules.items()}


def copies_of(version: Version) -> dict[str, int]:
    """By the name that queries are counted by, how many give the module away."""
    found: dict[str, int] = {}
    for many in version.server.served.modules.values():
        fewest = min((queries_to_copy(each.plan) for each in many if not each.plan.is_zero), default=0)
        for part in many[0].parts if fewest else ():
            name = counted(part.name)
            found[name] = min(found.get(name, fewest), fewest)
    return found


def _read(value: bytes | None) -> dict[str, int]:
    if value is None:
        return {}
    try:
        return strict_msgpack.decode(value, dict[str, int])
    except Malformed as error:
        raise CorruptPayload("Store: a client's count of queries is damaged.", hint="See the server's log.") from error
