"""The server's side of the correlations that clients prepared: the secrets of its masks, and which ones are used.

All sessions of one client share them, so that no index can be used in two of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from weakref import WeakValueDictionary

import msgspec

from helora_core.errors import CorrelationUsed, CorruptPayload, LimitExceeded, UnexpectedMessage
from helora_core.execution.streams import joined
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.parties.batch import Batch, Bound, KeptBatch, Serving
from helora_core.parties.limits import ServerLimits
from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.messages import MaskedUpload, Span
from helora_core.parties.pool import RESERVED
from helora_core.parties.store import SharedStore, Store, Write, under

AT_ONCE_PRODUCTS = 1 << 17
"""Products of words that an answer may take to be given at once: about 0.1 ms at most, whatever the library."""

AT_ONCE_SPANS = 8
"""Spans of correlations that such an answer may use."""


class TakesTime(Exception):
    """An answer cannot be given at once. Nothing changed."""


class Batches:
    """The batches of one client. Its sessions share them, in any threads.

    Args:
        owner: Ownership of the server's store.
        key_id: The client's key id.
        limits: How many batches and correlations there may be.
    """

    def __init__(self, owner: Ownership, key_id: bytes, limits: ServerLimits) -> None:
        self._owner, self._limits = owner, limits
        self.lock = threading.RLock()
        self._prefix = key_id.hex()
        self._batches: dict[bytes, Batch] = {}
        for value in under(owner.store, f"batch.{self._prefix}."):
            try:
                kept = strict_msgpack.decode(value, KeptBatch)
            except Malformed as error:
                raise CorruptPayload("Store: a batch is damaged.", hint="Let clients prepare again.") from error
            self._hold(kept)
        made = owner.store.get(f"made.{self._prefix}") if owner.store else None
        self._made = int.from_bytes(made or b"", "big")

    @property
    def left(self) -> int:
        """Correlations that are not used."""
        return sum(batch.left for batch in list(self._batches.values()))

    def require_room(self, batch: bytes, size: int) -> None:
        """Refuse to prepare a batch twice, or more than the limits allow.

        Raises:
            UnexpectedMessage: The batch already exists.
            LimitExceeded: The client has as many batches or correlations as it may, or had as many queries.
        """
        if batch in self._batches:
            raise UnexpectedMessage(
                "Session: the batch was prepared before, and its answer is no longer kept.", hint="Prepare another one."
            )
        held = sum(batch.kept.size for batch in list(self._batches.values()))
        if held + size > self._limits.correlations or len(self._batches) >= self._limits.batches:
            raise LimitExceeded(
                f"Session: {held} correlations are kept for this client in {len(self._batches)} batches; "
                f"the limit is {self._limits.correlations} in {self._limits.batches}.",
                hint="Use some first, or raise ServerLimits.",
            )
        self._require_queries(size)

    def _require_queries(self, size: int) -> None:
        queries = self._limits.queries
        if queries is not None and self._made + size > queries:
            raise LimitExceeded(
                f"Session: this client has had correlations for {self._made} tokens, and may have {queries} in all.",
                hint="Each is a query of the adapter; its owner may raise ServerLimits.queries.",
            )

    def grant(self, size: int) -> None:
        """Count correlations as queries, durably, before the first result of their batch is made: several batches may
        be in the making, and one that is given up halfway may have shown all of its results but the last.

        Raises:
            LimitExceeded: The client has had as many queries as it may. Nothing changes.
        """
        with self.lock:
            self._require_queries(size)
            made = self._made + size
            self._owner.put(Write(f"made.{self._prefix}", made.to_bytes(8, "big")))
            self._made = made

    def add(self, kept: KeptBatch) -> None:
        """Keep a batch that was prepared. Errors are those of the store."""
        with self.lock:
            self._owner.put(Write(self._key(kept.batch), msgspec.msgpack.encode(kept)))
            self._hold(kept)

    def _hold(self, kept: KeptBatch) -> None:
        mark = Mark(self._owner, f"used.{self._prefix}.{kept.batch.hex()}", kept.size, RESERVED)
        left = kept.size - mark.reserved
        if left:
            used = bytearray(b"\1" * mark.reserved + bytes(left))
            self._batches[kept.batch] = Batch(kept, mark, used, left)
        else:
            self._owner.put(*mark.erasing(self._key(kept.batch)))

    def answers(self, upload: MaskedUpload, serving: Serving) -> tuple[bytes, ...]:
        """Each module's results from activations under a pad. The correlations are marked as used first, durably.

        Raises:
            CorrelationUsed: A correlation is used, gone, or for other weights. Nothing changes.
            CorruptPayload: The message does not hold the numbers expected. Nothing changes.
            InvalidInput, NotDurable, …: As the store raises them; the correlations are used up, without an answer.
        """
        with self.lock:
            found = self._unused(upload.spans)
            modules = [batch.modules(upload.modules, serving) for batch, _ in found]
            _require_same(found, upload.modules)
            _require_numbers(upload, sum([span.count for _, span in found]), modules[0])
            results = []
            for place, (turn, weights, masks, _) in enumerate(modules[0]):
                if len(found) == 1:
                    rows = masks.take(found[0][1].start, found[0][1].count)
                else:
                    each = zip(modules, found, strict=True)
                    rows = joined([of[place].masks.take(span.start, span.count) for of, (_, span) in each])
                results.append(weights.answer(upload.numbers, rows, turn.answer_bits))
                rows.fill(0)
            self._use(found)
            return tuple(results)

    def answers_at_once(self, upload: MaskedUpload, serving: Serving) -> tuple[bytes, ...]:
        """The same without waiting, for a thread that has other things to do: neither for another thread, nor for the
        store, nor for what has to be made ready first, nor for more than ``AT_ONCE_PRODUCTS`` and ``AT_ONCE_SPANS``.

        Raises:
            TakesTime: It cannot be done so.
            HeloraError: As ``answers`` raises it.
        """
        if not self.lock.acquire(blocking=False):
            raise TakesTime
        try:
            if len(upload.spans) > AT_ONCE_SPANS:
                raise TakesTime
            found = self._unused(upload.spans)
            if self._owner.store is not None and any(
                span.start + span.count > batch.mark.reserved or span.count == batch.left for batch, span in found
            ):
                raise TakesTime
            ready = [batch.together.get(upload.modules) for batch, _ in found]
            tokens = sum([span.count for span in upload.spans])
            if None in ready or tokens * sum([each.products for each in ready[0] or ()]) > AT_ONCE_PRODUCTS:
                raise TakesTime
            return self.answers(upload, serving)
        finally:
            self.lock.release()

    def _unused(self, spans: Sequence[Span]) -> list[tuple[Batch, Span]]:
        """The batches of correlations, each with its span.

        Raises:
            CorrelationUsed: One of them is used or gone, or named twice.
        """
        found = []
        for span in spans:
            batch, end = self._batches.get(span.batch), span.start + span.count
            if batch is None or end > batch.kept.size or batch.used.find(1, span.start, end) >= 0:
                raise CorrelationUsed(
                    f"Session: of {span.count} correlations some are used, or do not exist.",
                    hint="Begin the request again, with others. After a restart of the server up to "
                    f"{RESERVED} of a batch are lost; if it lost all, call client.discard and prepare again.",
                )
            found.append((batch, span))
        places = sorted((span.batch, span.start, span.start + span.count) for span in spans)
        if any(one[0] == other[0] and other[1] < one[2] for one, other in pairwise(places)):
            raise CorrelationUsed(
                "Session: a correlation is named twice.", hint="Use each for one token of one request."
            )
        return found

    def _use(self, found: Sequence[tuple[Batch, Span]]) -> None:
        """Mark correlations as used; the mark is durable. Errors are those of ``Mark.cover``."""
        for batch, span in found:
            batch.used[span.start : span.start + span.count] = b"\1" * span.count
            batch.left -= span.count
        if len(found) == 1:
            found[0][0].mark.cover(found[0][1].start + found[0][1].count)
        else:
            Mark.cover_all([(batch.mark, span.start + span.count) for batch, span in found])
        for batch, _ in found:
            if not batch.left and self._batches.pop(batch.kept.batch, None) is not None:
                self._owner.put(*batch.mark.erasing(self._key(batch.kept.batch)))

    def _key(self, batch: bytes) -> str:
        return f"batch.{self._prefix}.{batch.hex()}"


def _require_same(found: Sequence[tuple[Batch, Span]], places: Sequence[int]) -> None:
    """Refuse correlations of different modules: queries of one would be answered, and counted as another's.

    Raises:
        CorrelationUsed: They are.
    """
    first = found[0][0].kept.modules
    if any(batch.kept.modules[place] != first[place] for batch, _ in found[1:] for place in places):
        raise CorrelationUsed(
            "Session: the correlations are of batches for different modules.",
            hint="Name correlations that were prepared for the same modules.",
        )


def _require_numbers(upload: MaskedUpload, tokens: int, modules: Sequence[Bound]) -> None:
    """Refuse a message that does not have y of so many tokens.

    Raises:
        CorruptPayload: It has no module, no token, or other numbers.
    """
    inputs = modules[0].turn.inputs if tokens and modules else 0
    if not inputs or len(upload.numbers) != 8 * tokens * inputs:
        raise CorruptPayload(
            f"The message holds other numbers than those of {tokens} tokens.",
            hint="Use the same version of helora on both sides.",
        )


class AllBatches:
    """The batches of all clients, held while a session of the client is open; the store keeps them longer.

    Args:
        store: Where batches outlive the server; None to lose them with it.
        limits: How many batches and correlations each client may have.
    """

    def __init__(self, store: Store | None, limits: ServerLimits) -> None:
        self.store = None if store is None else SharedStore(store)
        self._owner = Ownership(self.store, "owner.server")
        self._limits = limits
        self._held: WeakValueDictionary[bytes, Batches] = WeakValueDictionary()
        self._lock = threading.Lock()

    def of(self, key_id: bytes) -> Batches:
        """The batches of one client."""
        with self._lock:
            held = self._held.get(key_id)
            if held is None:
                held = self._held[key_id] = Batches(self._owner, key_id, self._limits)
            return held
