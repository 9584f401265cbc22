"""Up to where the correlations of a batch may have been used: kept by both parties, durable before the first use.

A mark is moved ahead by chunks, so that most uses cost no write. Whoever finds it after a crash takes all below it for
used. A party that finds that another one took its place moves no mark any more: what it had reserved it may use up,
since the other one leaves that out.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from helora_core.errors import CorruptPayload, NotDurable
from helora_core.parties.store import Store, Write

_OWNER_BYTES = 16


class Ownership:
    """That a party is the last to have opened its part of a store.

    Args:
        store: None where nothing is kept.
        key: Where the owner's name stands.
    """

    def __init__(self, store: Store | None, key: str) -> None:
        self.store = store
        self._key = key
        self._name = secrets.token_bytes(_OWNER_BYTES)
        self.put(Write(key, self._name), owned=False)

    def put(self, *writes: Write, owned: bool = True) -> None:
        """Write, if there is a store, and if it is this party's still.

        Raises:
            NotDurable: Another party has opened it since.
        """
        if self.store is None:
            return
        if owned and self.store.get(self._key) != self._name:
            raise NotDurable(
                "Another party has opened this store since; this one may write nothing to it.",
                hint="Use one client, or one server, for a store.",
            )
        self.store.put_many(list(writes))


class Mark:
    """The mark of one batch.

    Args:
        owner: Of the store.
        key: Where it stands.
        size: Correlations of the batch.
        ahead: How many are reserved at once.

    Attributes:
        reserved: Durably, all below may have been used.
    """

    def __init__(self, owner: Ownership, key: str, size: int, ahead: int) -> None:
        self._owner, self._key, self._size, self._ahead = owner, key, size, ahead
        kept = owner.store.get(key) if owner.store else None
        self.reserved = int.from_bytes(kept or b"", "big")
        if self.reserved > size:
            raise CorruptPayload(
                f"Store: {self.reserved} of {size} correlations are marked as used.", hint="Prepare correlations anew."
            )

    def cover(self, end: int) -> None:
        """See that all below ``end`` are reserved. Errors as of the store and ``Ownership.put``."""
        if end <= self.reserved:
            return
        reserved = min(self._size, end + self._ahead - 1)
        self._owner.put(Write(self._key, reserved.to_bytes(8, "big")))
        self.reserved = reserved

    def erasing(self, batch: str) -> Sequence[Write]:
        """What deletes a batch: the batch before its mark, so that it is never there without one."""
        return (Write(batch, None), Write(self._key, None))
