"""The server's side of the correlations that clients prepared: seeds of its masks, and which ones are used.

All sessions of one client share them, so that no index can be used in two of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple
from weakref import WeakValueDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.backend.ntt import Residues
from helora_core.compiler.plan import Plan
from helora_core.errors import CorrelationUsed, CorruptPayload, LimitExceeded, UnexpectedMessage
from helora_core.execution import modular
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.params.ckks import CKKSParams
from helora_core.parties.limits import ServerLimits
from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.messages import RequestId, Span, Upload
from helora_core.parties.pool import RESERVED
from helora_core.parties.store import Store, Write, under


class ModularWeights(NamedTuple):
    """Integers of a module's weights, and their SHA-256."""

    factors: modular.Factors
    fingerprint: bytes


class KeptBatch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A batch as the store keeps it.

    Attributes:
        batch: The client's name for it.
        size: Correlations.
        seed: The seed of the masks.
        modules: The SHA-256 of each module's weights: its masks are only good for these weights.
    """

    batch: RequestId
    size: Annotated[int, msgspec.Meta(ge=1)]
    seed: Annotated[bytes, msgspec.Meta(min_length=modular.SEED_BYTES, max_length=modular.SEED_BYTES)]
    modules: dict[str, bytes]


@dataclass(eq=False)
class _Batch:
    """A batch in use.

    Attributes:
        used: Whether each correlation is used, or may be: bool, shape (size,).
    """

    kept: KeptBatch
    mark: Mark
    used: NDArray[np.bool_]


def mask_seed(seed: bytes, module: str, run: int) -> bytes:
    """The seed of one run's masks."""
    return modular.child(seed, module.encode(), run.to_bytes(8, "big"))


class Batches:
    """The batches of one client, that is, of one key pair.

    Args:
        owner: Ownership of the server's store.
        key_id: The client's key id.
        limits: How many batches and correlations there may be.
    """

    def __init__(self, owner: Ownership, key_id: bytes, limits: ServerLimits) -> None:
        self._owner, self._limits = owner, limits
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
        return sum(int(np.count_nonzero(~batch.used)) for batch in self._batches.values())

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
        held = sum(batch.kept.size for batch in self._batches.values())
        if held + size > self._limits.correlations or len(self._batches) >= self._limits.batches:
            raise LimitExceeded(
                f"Session: {held} correlations are kept for this client in {len(self._batches)} batches; "
                f"the limit is {self._limits.correlations} in {self._limits.batches}.",
                hint="Use some first, or raise ServerLimits.",
            )

    def add(self, batch: bytes, size: int, seed: bytes, modules: Mapping[str, bytes]) -> None:
        """Keep a batch that was prepared. Errors are those of the store."""
        kept = KeptBatch(batch, size, seed, dict(modules))
        self._owner.put(Write(self._key(batch), msgspec.msgpack.encode(kept)))
        self._hold(kept)

    def _hold(self, kept: KeptBatch) -> None:
        mark = Mark(self._owner, f"used.{self._prefix}.{kept.batch.hex()}", kept.size, RESERVED)
        used = np.arange(kept.size) < mark.reserved
        if used.all():
            self._owner.put(*mark.erasing(self._key(kept.batch)))
        else:
            self._batches[kept.batch] = _Batch(kept, mark, used)

    def answers(
        self, plan: Plan, weights: Mapping[str, ModularWeights], upload: Upload, params: CKKSParams
    ) -> tuple[tuple[bytes, ...], ...]:
        """Each module's results from masked activations. The correlations are marked as used first, durably.

        Args:
            plan: The plan of one of the modules.
            weights: The weights of each module.
            upload: The client's message.
            params: The resolved parameters.

        Raises:
            CorrelationUsed: A correlation is used, gone, or for other weights. Nothing changes.
            CorruptPayload: The message does not hold the numbers expected. Nothing changes.
            InvalidInput, NotDurable, …: As the store raises them; the correlations are used up, without an answer.
        """
        primes = params.data_primes[: modular.correlation(plan).lower]
        self._require_unused(upload.spans, {name: each.fingerprint for name, each in weights.items()})
        data = b"".join(payload for payloads in upload.ciphertexts for payload in payloads)
        y = modular.from_bytes(data, primes, upload.tokens, len(plan.program.inputs))
        computed = []
        for name, each in weights.items():
            s = self._masks(upload.spans, name, plan.tokens_per_run, primes, len(each.factors[-1]))
            computed.append((modular.to_bytes(modular.answered(each.factors, y, s, primes)),))
        self._use(upload.spans)
        return tuple(computed)

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

    def _masks(self, spans: Sequence[Span], name: str, size: int, primes: Sequence[int], count: int) -> Residues:
        """The masks of a module's results: shape (lower primes, tokens, outputs); a run has ``size`` correlations."""
        parts = [
            modular.drawn(mask_seed(self._batches[batch].kept.seed, name, run), places, primes, count)
            for batch, run, places in _by_run(spans, size)
        ]
        return np.concatenate(parts, axis=1)

    def _use(self, spans: Sequence[Span]) -> None:
        """Mark correlations as used; the mark is durable. Errors are those of ``Mark.cover``."""
        for span in spans:
            batch = self._batches[span.batch]
            batch.used[span.start : span.start + span.count] = True
        for span in spans:
            batch = self._batches[span.batch]
            batch.mark.cover(span.start + span.count)
        for name in {span.batch for span in spans}:
            if self._batches[name].used.all():
                batch = self._batches.pop(name)
                self._owner.put(*batch.mark.erasing(self._key(name)))

    def _key(self, batch: bytes) -> str:
        return f"batch.{self._prefix}.{batch.hex()}"


def _by_run(spans: Sequence[Span], size: int) -> Iterator[tuple[bytes, int, range]]:
    """The batch, the run, and the places in the run."""
    for span in spans:
        start, end = span.start, span.start + span.count
        while start < end:
            run, place = divmod(start, size)
            stop = min(end, (run + 1) * size)
            yield span.batch, run, range(place, place + stop - start)
            start = stop


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

    def of(self, key_id: bytes) -> Batches:
        """The batches of one client."""
        held = self._held.get(key_id)
        if held is None:
            held = self._held[key_id] = Batches(self._owner, key_id, self._limits)
        return held


def new_seed() -> bytes:
    """A fresh seed for the masks of a batch, so that a batch that is begun again has other masks."""
    return secrets.token_bytes(modular.SEED_BYTES)
