"""Correlations made ahead of time: the client's side. Sans-IO, like all exchanges.

Each batch has a key pair of its own, which is erased when the batch is ready: a server that altered results and watched
whether tokens come out wrong would learn bits of a key that is no longer of use. What is sent again is the same bytes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import numpy as np

from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.correlations import NONCE_BYTES, BatchKey, Words
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.rounds import Phase
from helora_core.errors import CorruptPayload
from helora_core.execution import modular, streams
from helora_core.parties.channel import Channel
from helora_core.parties.messages import MOST_MESSAGE_BYTES, new_request_id
from helora_core.parties.pieces import PIECE_BYTES, result_pieces, upload_pieces
from helora_core.parties.pool import Pools, PreparedBatch, PreparedModule
from helora_core.parties.request import AskedModule, Exchange, Received

_TILE = 64
"""Correlations that are transposed, or packed, at a time, while they are in the cache."""


class Preparation(Exchange):
    """A preparation, as ``Client.prepare`` returns it. When it is done, the client's pool has the correlations. Each
    batch is in the pool as soon as it is ready.

    Args:
        asked: The modules, all with an offline phase, none of them with a Δ of zero.
        channel: The client's channel for their parameters.
        library: The backend's correlations.
        correlations: How many to make; the surplus of the last batch is not kept.
        pools: The pools that they are added to.
        on_correlations: Called with the number of correlations that are ready after each message, for progress bars; a
            batch that is half done counts half.
    """

    def __init__(
        self,
        asked: Sequence[AskedModule],
        channel: Channel,
        library: CheckedCorrelations,
        correlations: int,
        pools: Pools,
        on_correlations: Callable[[float], object] = lambda correlations: None,
    ) -> None:
        super().__init__(asked, channel, correlations, "Preparation")
        self._library, self._channel, self._pools = library, channel, pools
        self._phase = Phase.OFFLINE
        self._correlations = correlations
        self._told = on_correlations
        plans = [each.plan for each in self._alive]
        self._uploads, self._results = upload_pieces(plans[0]), result_pieces(plans)
        self._online = [modular.online_of(plan) for plan in plans]
        self._ready = 0
        self._begin_batch()

    @property
    def ready(self) -> int:
        """Correlations of batches that are done."""
        return self._ready

    def _begin_batch(self) -> None:
        self._id, self._number = new_request_id(), 0
        self._tokens = min(self._correlations - self._ready, self._channel.params.ring_degree)
        self._seed = secrets.token_bytes(streams.SEED_BYTES)
        self._pads = modular.pads(self._seed)
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._kept = [np.empty((self._tokens, online.outputs), dtype=np.uint64) for online in self._online]
        self._send([[self._nonce]])

    def _largest_answer(self) -> int:
        ring = self._channel.params.ring_degree
        return max(MOST_MESSAGE_BYTES, 2 * PIECE_BYTES + 64 * ring)

    def _expected(self) -> list[int]:
        return [0 if 0 < self._number <= len(self._uploads) else 1]

    def _predicted(self) -> OperationCounts:
        if self._number < self._last:
            return OperationCounts()
        predicted = OperationCounts()
        for each in self._alive:
            predicted = predicted.plus(each.plan.rounds[0].server_counts)
        return predicted

    @property
    def _last(self) -> int:
        return len(self._uploads) + len(self._results)

    def _take(self, received: Received, follows: bytes) -> OperationCounts:
        (payloads,) = received
        if self._number == 0:
            self._make_key(payloads[0])
        elif self._number > len(self._uploads):
            self._keep(payloads[0])
        self._number += 1
        executed = OperationCounts()
        if self._number <= len(self._uploads):
            executed = self._send_features(follows)
        elif self._number <= self._last:
            self._send([[]], follows)
        else:
            executed = self._finish()
        self._told(self._ready + self._tokens * self._number / (self._last + 1) if self._message else self._ready)
        return executed

    def _make_key(self, nonce: bytes) -> None:
        if len(nonce) != NONCE_BYTES:
            raise CorruptPayload(
                f"Preparation: the server's nonce has {len(nonce)} bytes, not {NONCE_BYTES}.",
                hint="Use the same version of helora on both sides.",
            )
        self._key: BatchKey = self._library.batch_key(self._channel.params, self._nonce + nonce)

    def _send_features(self, follows: bytes) -> OperationCounts:
        start, piece = time.perf_counter_ns(), self._uploads[self._number - 1]
        pads = self._pads.columns(self._channel.params.ring_degree, piece.start, piece.end)
        payload = self._key.encrypt(pads)
        elapsed = time.perf_counter_ns() - start
        self._times.encrypt += elapsed
        self._times.decrypt -= elapsed  # of the time for the whole answer
        self._send([[self._key.public_key, payload] if self._number == 1 else [payload]], follows)
        return OperationCounts(encrypts=piece.end - piece.start)

    def _keep(self, payload: bytes) -> None:
        piece = self._results[self._number - len(self._uploads) - 1]
        numbers = self._key.decrypt(payload, piece.end - piece.start, self._online[piece.module].how)
        kept = self._kept[piece.module]
        for start in range(0, self._tokens, _TILE):
            end = min(self._tokens, start + _TILE)
            kept[start:end, piece.start : piece.end] = numbers[:, start:end].T

    def _finish(self) -> OperationCounts:
        """The batch is ready: its key is erased, and the pool has it."""
        self._key.erase()
        modules = tuple(
            PreparedModule(each.name, each.plan.digest, self._packed(online.how.top_bits, kept))
            for each, online, kept in zip(self._alive, self._online, self._kept, strict=True)
        )
        pools = self._pools
        pools.add(PreparedBatch(self._id, self._channel.key_id, pools.number, self._tokens, self._seed, modules))
        self._ready += self._tokens
        if self._ready < self._correlations:
            self._begin_batch()
        else:
            self._message = None
        return OperationCounts(decrypts=sum(online.outputs for online in self._online))

    def _packed(self, bits: int, rows: Words) -> bytes:
        """The rows of all correlations, each packed to whole bytes."""
        many = _TILE if rows.shape[1] * bits % 8 == 0 else 1
        return b"".join(self._library.pack(rows[i : i + many].reshape(-1), bits) for i in range(0, len(rows), many))
