"""What a server has of the correlations that clients prepared: seeds of its masks, and which ones are used.

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
    """A batch as it is kept.

    Attributes:
        batch: The client's name for it.
        size: Correlations.
        seed: Of the masks.
        modules: For each module the SHA-256 of its weights, without which its masks are of no use.
    """

    batch: RequestId
    size: Annotated[int, msgspec.Meta(ge=1)]
    seed: Annotated[bytes, msgspec.Meta(min_length=modular.SEED_BYTES, max_length=modular.SEED_BYTES)]
    modules: dict[str, bytes]


@dataclass(eq=False)
class _Batch:
    """A batch in use.

    Attributes:
        used: Of each correlation whether it is, or may be: bool, shape (size,).
    """

    kept: KeptBatch
    mark: Mark
    used: NDArray[np.bool_]


def mask_seed(seed: bytes, module: str, run: int) -> bytes:
    """The seed of one run's masks."""
    return modular.child(seed, module.encode(), run.to_bytes(8, "big"))


class Batches:
    """Those of one client: of one key pair.

    Args:
        owner: Of the server's store.
        key_id: Of the keys.
        limits: How many there may be.
    """

    def __init__(self, owner: Ownership, key_id: bytes, limits: ServerLimits) -> None:
        self._owner, self._limits = owner, limits
        self._prefix = key_id.hex()
        self._batches: dict[bytes, _Batch] = {}
        for value in under(owner.store, f"batch.{self._prefix}."):
            try:
                kept = msgspec.msgpack.decode(value, type=KeptBatch)
            except (msgspec.MsgspecError, RecursionError) as error:
                raise CorruptPayload("Store: a batch is damaged.", hint="Let clients prepare anew.") from error
            self._hold(kept)

    @property
    def left(self) -> int:
        """Correlations that are not used."""
        return sum(int(np.count_nonzero(~batch.used)) for batch in self._batches.values())

    def require_room(self, batch: bytes, size: int) -> None:
        """Refuse to prepare what is there, or more than there may be.

        Raises:
            UnexpectedMessage: The batch is there.
            LimitExceeded: There are as many batches, or correlations.
        """
        if batch in self._batches:
            raise UnexpectedMessage(
                "Session: the batch was prepared, and the answer is not kept any more.", hint="Prepare another one."
            )
        held = sum(batch.kept.size for batch in self._batches.values())
        if held + size > self._limits.correlations or len(self._batches) >= self._limits.batches:
            raise LimitExceeded(
                f"Session: {held} correlations are kept for this client in {len(self._batches)} batches; "
                f"{self._limits.correlations} in {self._limits.batches} may be.",
                hint="Use some first, or raise ServerLimits.",
            )

    def add(self, batch: bytes, size: int, seed: bytes, modules: Mapping[str, bytes]) -> None:
        """Keep a batch that was prepared. Errors as of the store."""
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
        """What is computed with masked activations, for each module; their correlations are used then, durably.

        Args:
            plan: Of one of the modules.
            weights: Of each module.
            upload: The client's message.
            params: Resolved.

        Raises:
            CorrelationUsed: Of the correlations one is used, gone, or for other weights. Nothing changes.
            CorruptPayload: The message holds other numbers. Nothing changes.
            InvalidInput, NotDurable, …: As the store does; they are used then, and nothing is answered.
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
            modules: What they are to be used for: the SHA-256 of the weights of each.

        Raises:
            CorrelationUsed: One of them is no good, or named twice.
        """
        seen: set[tuple[bytes, int]] = set()
        for span in spans:
            batch = self._batches.get(span.batch)
            end = span.start + span.count
            fits = batch is not None and end <= batch.kept.size and not batch.used[span.start : end].any()
            if batch is None or not fits or any(batch.kept.modules.get(name) != of for name, of in modules.items()):
                raise CorrelationUsed(
                    f"Session: of {span.count} correlations some are used, or not there for these modules (any more).",
                    hint="Begin the request again, with others. After a restart of the server up to "
                    f"{RESERVED} of a batch are lost; if it forgot the batch, client.discard and prepare anew.",
                )
            named = {(span.batch, i) for i in range(span.start, end)}
            if not seen.isdisjoint(named):
                raise CorrelationUsed(
                    "Session: a correlation is named twice.", hint="Use each for one token of one request."
                )
            seen |= named

    def _masks(self, spans: Sequence[Span], name: str, size: int, primes: Sequence[int], count: int) -> Residues:
        """What hides a module's results: shape (lower primes, tokens, outputs); ``size`` is that of a run."""
        parts = [
            modular.drawn(mask_seed(self._batches[batch].kept.seed, name, run), places, primes, count)
            for batch, run, places in _by_run(spans, size)
        ]
        return np.concatenate(parts, axis=1)

    def _use(self, spans: Sequence[Span]) -> None:
        """Mark correlations as used; what is durable is below the mark. Errors as of ``Mark.cover``."""
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
    """Batch, run, and the places in it."""
    for span in spans:
        start, end = span.start, span.start + span.count
        while start < end:
            run, place = divmod(start, size)
            stop = min(end, (run + 1) * size)
            yield span.batch, run, range(place, place + stop - start)
            start = stop


class AllBatches:
    """Those of all clients: each as long as one of its sessions is there; the store keeps them longer.

    Args:
        store: Where they outlive the server; None to lose them with it.
        limits: How many there may be, for each client.
    """

    def __init__(self, store: Store | None, limits: ServerLimits) -> None:
        self.store = store
        self._owner = Ownership(store, "owner.server")
        self._limits = limits
        self._held: WeakValueDictionary[bytes, Batches] = WeakValueDictionary()

    def of(self, key_id: bytes) -> Batches:
        """One client's."""
        held = self._held.get(key_id)
        if held is None:
            held = self._held[key_id] = Batches(self._owner, key_id, self._limits)
        return held


def new_seed() -> bytes:
    """Of the masks of a batch: its own, so that a batch that is begun anew has others."""
    return secrets.token_bytes(modular.SEED_BYTES)
