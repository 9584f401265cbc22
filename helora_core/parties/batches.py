"""The server's side of the correlations that clients prepared: the secrets of its masks, and which ones are used.

All sessions of one client share them, so that no index can be used in two of them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated
from weakref import WeakValueDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.backend.checked_backend import CheckedBackend
from helora_core.backend.correlations import Words
from helora_core.compiler.plan import Plan
from helora_core.errors import CorrelationUsed, CorruptPayload, LimitExceeded, UnexpectedMessage
from helora_core.execution import modular
from helora_core.execution.modular import online_of
from helora_core.execution.streams import SEED_BYTES, Stream
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.parties.limits import ServerLimits
from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.messages import RequestId, Span, Upload
from helora_core.parties.pool import RESERVED
from helora_core.parties.store import Store, Write, under
from helora_core.parties.weights import ModularWeights
from helora_core.parties.work import Answer, Keys


class KeptBatch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A batch as the store keeps it.

    Attributes:
        batch: The client's name for it.
        size: Correlations.
        secret: The secret of its masks; it depends on the client's upload.
        modules: The SHA-256 of each module's weights: its masks are only good for these weights.
    """

    batch: RequestId
    size: Annotated[int, msgspec.Meta(ge=1)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
    modules: dict[str, bytes]


@dataclass(eq=False)
class _Batch:
    """A batch in use.

    Attributes:
        used: Whether each correlation is used, or may be: bool, shape (size,).
        left: How many are not.
        streams: The masks of the modules that were asked for.
    """

    kept: KeptBatch
    mark: Mark
    used: NDArray[np.bool_]
    left: int
    streams: dict[str, Stream] = field(default_factory=dict)

    def masks(self, name: str, start: int, count: int, outputs: int) -> Words:
        """The masks of a module's results, shape (count, outputs)."""
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = modular.masks(self.kept.secret, name, self.kept.modules[name])
        return stream.rows(start, count, 0, outputs)


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
        self._batches: dict[bytes, _Batch] = {}
        for value in under(owner.store, f"batch.{self._prefix}."):
            try:
                kept = strict_msgpack.decode(value, KeptBatch)
            except Malformed as error:
                raise CorruptPayload("Store: a batch is damaged.", hint="Let clients prepare again.") from error
            self._hold(kept)

    @property
    def left(self) -> int:
        """Correlations that are not used."""
        return sum(batch.left for batch in list(self._batches.values()))

    def require_room(self, batch: bytes, size: int) -> None:
        """Refuse to prepare a batch twice, or more than the limits allow.

        Raises:
            UnexpectedMessage: The batch already exists.
            LimitExceeded: The client has as many batches or correlations as it may.
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

    def add(self, batch: bytes, size: int, secret: bytes, modules: Mapping[str, bytes]) -> None:
        """Keep a batch that was prepared. Errors are those of the store."""
        kept = KeptBatch(batch, size, secret, dict(modules))
        with self.lock:
            self._owner.put(Write(self._key(batch), msgspec.msgpack.encode(kept)))
            self._hold(kept)

    def _hold(self, kept: KeptBatch) -> None:
        mark = Mark(self._owner, f"used.{self._prefix}.{kept.batch.hex()}", kept.size, RESERVED)
        used = np.arange(kept.size) < mark.reserved
        if used.all():
            self._owner.put(*mark.erasing(self._key(kept.batch)))
        else:
            self._batches[kept.batch] = _Batch(kept, mark, used, int(np.count_nonzero(~used)))

    def masks(self, spans: Sequence[Span], weights: Mapping[str, ModularWeights]) -> dict[str, Words]:
        """The masks of each module's results, shape (tokens, outputs). Nothing changes.

        Raises:
            CorrelationUsed: A correlation is used, gone, or for other weights, or named twice.
        """
        self._require_unused(spans, {name: each.fingerprint for name, each in weights.items()})
        found = {}
        for name, each in weights.items():
            outputs = len(each.matrices[-1])
            parts = [self._batches[span.batch].masks(name, span.start, span.count, outputs) for span in spans]
            found[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return found

    def _require_unused(self, spans: Sequence[Span], modules: Mapping[str, bytes]) -> None:
        """Refuse correlations that are used, gone, or for other weights. Nothing changes.

        Args:
            spans: The correlations.
            modules: The modules to use them for: the SHA-256 of the weights of each.

        Raises:
            CorrelationUsed: One of them cannot be used, or is named twice.
        """
        seen: set[tuple[bytes, int]] = set()
        for span in spans:
            batch = self._batches.get(span.batch)
            end = span.start + span.count
            fits = batch is not None and end <= batch.kept.size and not batch.used[span.start : end].any()
            if batch is None or not fits or any(batch.kept.modules.get(name) != of for name, of in modules.items()):
                raise CorrelationUsed(
                    f"Session: of {span.count} correlations some are used, or do not exist for these modules.",
                    hint="Begin the request again, with others. After a restart of the server up to "
                    f"{RESERVED} of a batch are lost; if it lost all, call client.discard and prepare again.",
                )
            named = {(span.batch, i) for i in range(span.start, end)}
            if not seen.isdisjoint(named):
                raise CorrelationUsed(
                    "Session: a correlation is named twice.", hint="Use each for one token of one request."
                )
            seen |= named

    def use(self, spans: Sequence[Span]) -> None:
        """Mark correlations as used; the mark is durable. Errors are those of ``Mark.cover``."""
        for span in spans:
            batch = self._batches[span.batch]
            batch.used[span.start : span.start + span.count] = True
            batch.left -= span.count
        for span in spans:
            batch = self._batches[span.batch]
            batch.mark.cover(span.start + span.count)
        for name in {span.batch for span in spans}:
            if not self._batches[name].left:
                batch = self._batches.pop(name)
                self._owner.put(*batch.mark.erasing(self._key(name)))

    def _key(self, batch: bytes) -> str:
        return f"batch.{self._prefix}.{batch.hex()}"


class Online:
    """The server's work for one online message.

    Args:
        backend: The backend.
        batches: The client's batches.
        plans: The plan of each module, by its name.
        weights: The weights of each.
    """

    bytes_held = 0

    def __init__(
        self,
        backend: CheckedBackend,
        batches: Batches,
        plans: Mapping[str, Plan],
        weights: Mapping[str, ModularWeights],
    ) -> None:
        self._backend, self._batches, self._plans, self._weights = backend, batches, plans, weights
        self.done = False

    def answer(self, keys: Keys, upload: Upload, fingerprint: bytes) -> Answer:
        """Each module's results from activations under a pad. The correlations are marked as used first, durably.

        Raises:
            CorrelationUsed: A correlation is used, gone, or for other weights. Nothing changes.
            CorruptPayload: The message does not hold the numbers expected. Nothing changes.
            InvalidInput, NotDurable, …: As the store raises them; the correlations are used up, without an answer.
        """
        with self._batches.lock:
            return self._answered(upload)

    def _answered(self, upload: Upload) -> Answer:
        masks = self._batches.masks(upload.spans, self._weights)
        computed = []
        for name, each in self._weights.items():
            turn = online_of(self._plans[name])
            v = each.online.answer(_words(upload, turn.inputs), masks[name], turn.how.top_bits)
            computed.append((self._backend.pack(v, turn.how.top_bits),))
        self._batches.use(upload.spans)
        self.done = True
        return Answer(tuple(computed))


def _words(upload: Upload, inputs: int) -> Words:
    """The numbers of an online message: uint64, shape (tokens, inputs)."""
    payloads = [payload for payloads in upload.ciphertexts for payload in payloads]
    if len(payloads) == 1 and len(payloads[0]) == 8 * upload.tokens * inputs:
        return np.frombuffer(payloads[0], dtype="<u8").reshape(upload.tokens, inputs)
    raise CorruptPayload(
        f"The message holds other numbers than those of {upload.tokens} tokens.",
        hint="Use the same version of helora on both sides.",
    )


class AllBatches:
    """The batches of all clients, held while a session of the client is open; the store keeps them longer.

    Args:
        store: Where batches outlive the server; None to lose them with it.
        limits: How many batches and correlations each client may have.
    """

    def __init__(self, store: Store | None, limits: ServerLimits) -> None:
        self.store = store
        self._owner = Ownership(store, "owner.server")
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
