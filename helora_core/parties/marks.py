"""Up to where the correlations of a batch may have been used: kept by both parties, durable before the first use.

A mark is moved ahead in chunks, so that most uses cost no write. After a crash, all correlations below it count as
used. A party that finds that another one took its place moves no mark any more. It may use up what it had reserved,
since the other one skips that.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from helora_core.errors import CorruptPayload, NotDurable
from helora_core.parties.store import Store, Write

_OWNER_BYTES = 16


class Ownership:
    """Whether a party is the last one to have opened its part of a store.

    It looks before it writes, which is no lock: a store that two processes can open at the same time needs an
    ``AnchoredStore``, whose anchor moves by compare-and-set.

    Args:
        store: The store; None if nothing is kept.
        key: The key of the owner's name.
    """

    def __init__(self, store: Store | None, key: str) -> None:
        self.store = store
        self._key = key
        self._name = secrets.token_bytes(_OWNER_BYTES)
        self.put(Write(key, self._name), owned=False)

    def put(self, *writes: Write, owned: bool = True) -> None:
        """Write, if there is a store and this party still owns it.

        Raises:
            NotDurable: Another party has opened it since.
        """
        if self.store is None:
            return
        if owned and self.store.get(self._key) != self._name:
            raise NotDurable(
                "Another party has opened this store since; this one may no longer write to it.",
                hint="Use a store for only one client, or only one server, at a time.",
            )
        self.store.put_many(list(writes))


class Mark:
    """The mark of one batch.

    Args:
        owner: Ownership of the store.
        key: The mark's key.
        size: Number of correlations in the batch.
        ahead: How many are reserved with one write.

    Attributes:
        reserved: All correlations below this, durably, may have been used.
    """

    def __init__(self, owner: Ownership, key: str, size: int, ahead: int) -> None:
        self._owner, self._key, self._size, self._ahead = owner, key, size, ahead
        kept = owner.store.get(key) if owner.store else None
        self.reserved = int.from_bytes(kept or b"", "big")
        if self.reserved > size:
            raise CorruptPayload(
                f"Store: {self.reserved} of {size} correlations are marked as used.", hint="Prepare correlations again."
            )

    def cover(self, end: int) -> None:
        """Reserve all correlations below ``end``. Errors are those of the store and ``Ownership.put``."""
        if end > self.reserved:
            Mark.cover_all([(self, end)])

    @staticmethod
    def cover_all(ends: Sequence[tuple[Mark, int]]) -> None:
        """Do so for several marks of one owner by one put: what one message takes from several batches.

        Errors are those of the store and ``Ownership.put``; no mark moves then.
        """
        moved: dict[Mark, int] = {}
        for mark, end in ends:
            if end > max(mark.reserved, moved.get(mark, 0)):
                moved[mark] = min(mark._size, end + mark._ahead - 1)
        if moved:
            owner = next(iter(moved))._owner
            owner.put(*(Write(mark._key, reserved.to_bytes(8, "big")) for mark, reserved in moved.items()))
        for mark, reserved in moved.items():
            mark.reserved = reserved

    def erasing(self, batch: str) -> Sequence[Write]:
        """The writes that delete a batch: the batch before its mark, so that it never exists without one."""
        return (Write(batch, None), Write(self._key, None))
