"""The server's side of one batch in the making: its nonce, the sums over the client's ciphertexts, and the results.

Nothing random is kept for them. Masks and all that re-randomising takes are expanded from the batch's secret, which is
made of the server's random seed and of the whole upload: a result that is asked for again is the same bytes, and a
batch whose upload is another one has other masks. Uploads are bound by the checksums of their messages.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.correlations import NONCE_BYTES
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.compiled import CompiledModule
from helora_core.errors import CorruptPayload
from helora_core.execution import modular, streams
from helora_core.params.ckks import CKKSParams
from helora_core.parties.batch import KeptBatch
from helora_core.parties.batches import Batches
from helora_core.parties.messages import Upload
from helora_core.parties.pieces import result_pieces, upload_pieces
from helora_core.parties.weights import ModularWeights
from helora_core.parties.work import Answer, Keys

_WORD_BYTES = 8


class Making:
    """A batch in the making.

    Args:
        library: The backend's correlations.
        params: Resolved.
        modules: What it is for, all of one input.
        weights: Their integers, by their names at the server.
        batches: Where the batch is kept once it is done.
        admit: Called with the number of correlations before the first result is made; it raises to refuse them.

    Attributes:
        waits: Whether answers wait for writes to be durable: once its correlations are counted.
    """

    def __init__(
        self,
        library: CheckedCorrelations,
        params: CKKSParams,
        modules: Sequence[CompiledModule],
        weights: Mapping[str, ModularWeights],
        batches: Batches,
        admit: Callable[[int], object] = lambda correlations: None,
    ) -> None:
        self._library, self._params, self._batches = library, params, batches
        self._admit = admit
        self._plans = [each.plan for each in modules]
        self._names, self._weights = list(weights), list(weights.values())
        self._down = np.concatenate([each.matrices[0] for each in self._weights])
        self._uploads, self._results = upload_pieces(self._plans[0]), result_pieces(self._plans)
        self._random = secrets.token_bytes(streams.SEED_BYTES)
        self._uploaded = hashlib.sha256()
        self._number = 0
        self.waits = False

    @property
    def bytes_held(self) -> int:
        """Bytes of the sums."""
        limbs = len(self._params.data_bits) + 1
        return 2 * limbs * self._params.ring_degree * _WORD_BYTES * len(self._down)

    @property
    def done(self) -> bool:
        """Whether all results were made."""
        return self._number > len(self._uploads) + len(self._results)

    @property
    def secret(self) -> bytes:
        """The batch's secret, once everything is uploaded."""
        return streams.child(self._random, "batch", self._uploaded.digest())

    def answer(self, keys: Keys, upload: Upload, fingerprint: bytes) -> Answer:
        """The answer to the next message; with the last one the batch is kept."""
        payloads = [payload for payloads in upload.ciphertexts for payload in payloads]
        number, uploads = self._number, len(self._uploads)
        if len(payloads) != (0 if number > uploads else 2 if number == 1 else 1):
            raise CorruptPayload(
                f"Session: message {number} of a preparation does not hold what is expected.",
                hint="Use the same version of helora on both sides.",
            )
        if number == 0:
            made = self._begun(payloads[0])
        elif number <= uploads:
            if number == uploads:
                self._grant(upload.tokens)
            made = self._added(payloads, number)
        else:
            made = self._made(number - uploads - 1)
        if number <= uploads:
            self._uploaded.update(fingerprint)
        executed = OperationCounts()
        if number == uploads + len(self._results):
            modules = zip(self._names, self._plans, self._weights, strict=True)
            kept = tuple((name, plan.digest, weights.fingerprint) for name, plan, weights in modules)
            self._batches.add(KeptBatch(upload.request, upload.tokens, self.secret, kept))
            for plan in self._plans:
                executed = executed.plus(plan.rounds[0].server_counts)
        self._number += 1
        return Answer((made,), executed)

    def _grant(self, size: int) -> None:
        """Count the batch's correlations, once; also if the last piece turns out to be damaged and comes again."""
        if not self.waits:
            self._admit(size)
            self._batches.grant(size)
            self.waits = True

    def _begun(self, nonce: bytes) -> tuple[bytes, ...]:
        if len(nonce) != NONCE_BYTES:
            raise CorruptPayload(
                f"Session: a nonce of {len(nonce)} bytes; it has {NONCE_BYTES}.",
                hint="Use the same version of helora on both sides.",
            )
        own = secrets.token_bytes(NONCE_BYTES)
        self._nonces = nonce + own
        return (own,)

    def _added(self, payloads: Sequence[bytes], number: int) -> tuple[bytes, ...]:
        piece = self._uploads[number - 1]
        if number == 1:
            sums = self._library.batch_sums(self._params, payloads[0], self._nonces, len(self._down))
            sums.add(payloads[1], self._down[:, piece.start : piece.end])
            self._sums = sums
        else:
            self._sums.add(payloads[0], self._down[:, piece.start : piece.end])
        return ()

    def _made(self, index: int) -> tuple[bytes, ...]:
        piece = self._results[index]
        own, before = self._weights[piece.module], self._weights[: piece.module]
        plan, name = self._plans[piece.module], self._names[piece.module]
        first, up = sum(len(each.matrices[0]) for each in before), own.matrices[1][piece.start : piece.end]
        padded = np.zeros((len(up), len(self._down)), dtype=np.int64)
        padded[:, first : first + up.shape[1]] = up
        secret = self.secret
        stream = modular.masks(secret, name, own.fingerprint)
        masks = stream.columns(self._params.ring_degree, piece.start, piece.end)
        seed = streams.child(secret, "results", name.encode(), own.fingerprint, piece.start.to_bytes(8, "big"))
        how = modular.online_of(plan).how
        return (self._sums.results(padded, masks, seed, how),)
