"""The client's pools: batches of single-use correlations, which are taken in order, each of them once.

A batch is for one input: all modules that it was prepared for share the randomness r, and each is taken for all
of them. The client keeps the seed of r, and c = W·r − s as numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec

from helora_core.backend.correlations import Words
from helora_core.compiler.plan import Plan
from helora_core.errors import CorruptPayload, PoolEmpty
from helora_core.execution import modular
from helora_core.execution.streams import SEED_BYTES, Upcoming, joined
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.messages import RequestId, Span
from helora_core.parties.store import Store, Write, under

RESERVED = 64
"""Correlations that a party reserves with one write; the unused ones of them are lost in a crash."""


class PreparedModule(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The part of a batch for one module.

    Attributes:
        name: Its name at the server.
        plan: Digest of its plan.
        masked: c = W·r − s: for each correlation the bits that are kept of each output, packed to whole bytes.
    """

    name: str
    plan: str
    masked: bytes


class PreparedBatch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A batch as the store keeps it.

    Attributes:
        batch: The batch's name, at the server too.
        key_id: The client's key id.
        number: Increases from batch to batch.
        size: Correlations.
        seed: The seed of r.
        modules: The modules that it is for.
    """

    batch: RequestId
    key_id: bytes
    number: Annotated[int, msgspec.Meta(ge=0)]
    size: Annotated[int, msgspec.Meta(ge=1)]
    seed: Annotated[bytes, msgspec.Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
    modules: tuple[PreparedModule, ...]


class PoolLevel(msgspec.Struct, frozen=True):
    """How full a pool is.

    Attributes:
        left: Correlations that are left.
        low: Whether they are fewer than the client's low-water mark.
    """

    left: int
    low: bool


class Taken(NamedTuple):
    """Correlations for the tokens of one request, in order. Nobody else has them.

    Attributes:
        spans: Their places in batches.
        pads: r, shape (tokens, inputs).
        masked: c of each module, packed as in ``PreparedModule``.
        places: The place of each module in its batch.
    """

    spans: tuple[Span, ...]
    pads: Words
    masked: Mapping[str, bytes]
    places: tuple[int, ...]


class _Batch:
    """A batch in use."""

    def __init__(self, kept: PreparedBatch, plans: Mapping[str, Plan], mark: Mark) -> None:
        rounds = {each.name: modular.online_of(plans[each.plan]) for each in kept.modules}
        self.kept = kept
        self.modules = tuple(each.name for each in kept.modules)
        self.plans = {each.name: each.plan for each in kept.modules}
        self.places = {name: place for place, name in enumerate(self.modules)}
        self.mark = mark
        self.next = mark.reserved
        self._pads = Upcoming(modular.pads(kept.seed), rounds[self.modules[0]].inputs)
        self._masked = {each.name: (bytearray(each.masked), rounds[each.name].row_bytes) for each in kept.modules}
        if any(len(masked) != kept.size * row_bytes for masked, row_bytes in self._masked.values()):
            raise CorruptPayload("Store: a pool is damaged.", hint="Prepare correlations again.")

    @property
    def left(self) -> int:
        return self.kept.size - self.next

    @property
    def bytes_held(self) -> int:
        return sum(len(masked) for masked, _ in self._masked.values())

    def take(self, count: int, names: Collection[str]) -> Taken:
        """The next correlations; each is given out only once. Errors are those of ``Mark.cover``."""
        start, end = self.next, self.next + count
        self.next = end  # also if the write fails: whether it reached the disk is not known
        self.mark.cover(end)
        taken = {}
        for name, (masked, row_bytes) in self._masked.items():
            own = slice(start * row_bytes, end * row_bytes)
            if name in names:
                taken[name] = bytes(masked[own])
            masked[own] = bytes(count * row_bytes)
        places = tuple([self.places[name] for name in names])
        return Taken((Span(self.kept.batch, start, count),), self._pads.take(start, count), taken, places)


class Pools:
    """All pools of a client's name at a server. Threads may fill and use them together.

    Args:
        store: Where batches and marks are kept; None to keep them only in memory.
        key_id: The client's key id; batches of other keys are left alone.
        plans: The plans that may have batches, by digest. Batches for other plans are deleted.
        low_water: A pool with fewer correlations than this is low.
        reserved: Correlations to reserve with one write.
    """

    def __init__(
        self,
        store: Store | None,
        key_id: bytes,
        plans: Mapping[str, Plan],
        *,
        low_water: int,
        reserved: int = RESERVED,
    ) -> None:
        self._prefix = key_id.hex()
        self._owner = Ownership(store, f"owner.client.{self._prefix}")
        self._key_id, self._plans = key_id, plans
        self._low_water, self._ahead = low_water, reserved
        self._lock = threading.RLock()
        self._batches: list[_Batch] = []
        self._known: dict[tuple[tuple[str, str], ...], list[list[_Batch]]] = {}
        self._seen: set[tuple[str, ...]] = set()
        for value in under(store, f"pool.{self._prefix}."):
            self._restore(value)
        self._batches.sort(key=lambda batch: batch.kept.number)
        self._seen.update(batch.modules for batch in self._batches)
        self.number = self._batches[-1].kept.number + 1 if self._batches else 0

    def _restore(self, value: bytes) -> None:
        try:
            kept = strict_msgpack.decode(value, PreparedBatch)
        except Malformed as error:
            raise CorruptPayload("Store: a pool is damaged.", hint="Prepare correlations again.") from error
        known = all(each.plan in self._plans for each in kept.modules)
        mark = self._mark(kept)
        if kept.modules and known and mark.reserved < kept.size:
            self._batches.append(_Batch(kept, self._plans, mark))
        else:
            self._erase(kept, mark)

    def add(self, kept: PreparedBatch) -> None:
        """Add a batch to a pool. Errors are those of the store."""
        with self._lock:
            batch = _Batch(kept, self._plans, self._mark(kept))
            self._owner.put(Write(self._key(kept), msgspec.msgpack.encode(kept)))
            self._batches.append(batch)
            self._known.clear()
            self._seen.add(batch.modules)
            self.number = kept.number + 1

    @property
    def bytes_held(self) -> int:
        """Bytes of the batches in memory; as many are in the store."""
        with self._lock:
            return sum(batch.bytes_held for batch in self._batches)

    def levels(self) -> dict[tuple[str, ...], PoolLevel]:
        """The level of each pool that was ever filled, by the modules that it is for."""
        with self._lock:
            left = dict.fromkeys(sorted(self._seen), 0)
            for batch in self._batches:
                left[batch.modules] += batch.left
        return {modules: PoolLevel(count, count < self._low_water) for modules, count in left.items()}

    def take(self, wanted: Mapping[str, str], tokens: int) -> Taken:
        """A correlation for each token, the oldest first, from the pool with the fewest other modules.

        Args:
            wanted: The modules, each with its plan's digest.
            tokens: Number of tokens.

        Raises:
            PoolEmpty: No pool for these modules has as many correlations.
            NotDurable, InvalidInput, …: As ``Mark.cover`` raises them; the correlations are lost then.
        """
        with self._lock:
            most = 0
            for pool in self._fitting(wanted):
                if pool[0].left > tokens:
                    return pool[0].take(tokens, wanted)
                left = sum(batch.left for batch in pool)
                if left >= tokens:
                    return self._joined(list(self._parts(pool, tokens, wanted)), wanted)
                most = max(most, left)
        raise PoolEmpty(
            f"Client: {tokens} correlations are asked for, and the pool for these {len(wanted)} modules has {most}.",
            hint="Prepare more (client.prepare), or name modules with another plan (begin(…, otherwise=…)).",
        )

    def _fitting(self, wanted: Mapping[str, str]) -> list[list[_Batch]]:
        """The pools for these modules by these plans, as batches; first that with the fewest other modules."""
        key = tuple(wanted.items())
        if key not in self._known:
            fitting = [batch for batch in self._batches if wanted.items() <= batch.plans.items()]
            pools = sorted(dict.fromkeys(batch.modules for batch in fitting), key=len)
            self._known[key] = [[batch for batch in fitting if batch.modules == modules] for modules in pools]
        return self._known[key]

    def _parts(self, fitting: Sequence[_Batch], tokens: int, names: Collection[str]) -> Iterator[Taken]:
        for batch in list(fitting):
            count = min(tokens, batch.left)
            if count:
                yield batch.take(count, names)
            if not batch.left:
                self._drop(batch)
            tokens -= count

    def _joined(self, parts: Sequence[Taken], names: Collection[str]) -> Taken:
        if len(parts) == 1:
            return parts[0]
        return Taken(
            tuple(span for part in parts for span in part.spans),
            joined([part.pads for part in parts]),
            {name: b"".join([part.masked[name] for part in parts]) for name in names},
            parts[0].places,
        )

    def discard(self, names: Sequence[str]) -> None:
        """Delete all batches for any of these modules."""
        with self._lock:
            for batch in [batch for batch in self._batches if not set(names).isdisjoint(batch.modules)]:
                self._drop(batch)

    def _drop(self, batch: _Batch) -> None:
        self._batches.remove(batch)
        self._known.clear()
        self._erase(batch.kept, batch.mark)

    def _erase(self, kept: PreparedBatch, mark: Mark) -> None:
        self._owner.put(*mark.erasing(self._key(kept)))

    def _mark(self, kept: PreparedBatch) -> Mark:
        return Mark(self._owner, f"mark.{self._prefix}.{kept.batch.hex()}", kept.size, self._ahead)

    def _key(self, kept: PreparedBatch) -> str:
        return f"pool.{self._prefix}.{kept.batch.hex()}"
