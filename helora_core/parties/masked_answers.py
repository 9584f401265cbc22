"""A session's answers to masked activations: short messages, answered at once, and again with the same bytes."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from helora_core.backend.envelope import PayloadKind, checksum_of
from helora_core.errors import CorruptPayload, LimitExceeded
from helora_core.parties.batches import Batches
from helora_core.parties.channel import Channel
from helora_core.parties.limits import ServerLimits
from helora_core.parties.messages import MaskedDownload, MaskedUpload, decode, encode
from helora_core.parties.served import Served
from helora_core.parties.store import Ticket

_First = tuple[bytes, int]
"""The first correlation of a message names it."""


class _Kept(NamedTuple):
    """An answer that is kept.

    Attributes:
        upload: Checksum of the message.
        answer: The answer.
        ticket: The writes that have to be durable before it may be sent.
    """

    upload: bytes
    answer: bytes
    ticket: Ticket


class MaskedAnswers:
    """The answers of one session.

    Args:
        served: What the server serves.
    """

    def __init__(self, served: Served) -> None:
        self._served = served
        self._kept: OrderedDict[_First, _Kept] = OrderedDict()
        self.kept_bytes = 0

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.kept_bytes = 0

    def answer(
        self,
        channel: Channel,
        batches: Batches,
        message: bytes,
        payload: bytes | memoryview,
        *,
        at_once: bool = False,
    ) -> bytes:
        """The answer to a message, whose payload was checked.

        Raises:
            TakesTime: It is wanted at once, and takes longer. Nothing changes.
            CorruptPayload: It does not hold the numbers expected.
            LimitExceeded: It is for too many tokens.
            CorrelationUsed: Its correlations are used, gone, or for other weights.
            NotDurable: The store is ``Deferred``: do the writes of ``durable``, call ``written()``, and ask again.
        """
        start = time.perf_counter_ns()
        upload = decode(payload, MaskedUpload)
        if not upload.spans:
            raise CorruptPayload(
                "The message names no correlation.", hint="Use the same version of helora on both sides."
            )
        span = upload.spans[0]
        first, fingerprint = (span.batch, span.start), checksum_of(message)
        kept = self._kept.get(first)
        if kept is not None and kept.upload == fingerprint:
            kept.ticket.require("Session")
            return kept.answer
        limits, tokens = self._served.limits, sum([span.count for span in upload.spans])
        if tokens > limits.tokens:
            raise LimitExceeded(
                f"Session: the request is for {tokens} tokens; 1 to {limits.tokens} are served at once.",
                hint="Send fewer tokens per request.",
            )
        results = (batches.answers_at_once if at_once else batches.answers)(upload, self._served)
        elapsed = time.perf_counter_ns() - start
        answer = channel.seal(PayloadKind.MASKED_DOWNLOAD, encode(MaskedDownload(*first, results, elapsed)))
        kept = self._kept[first] = _Kept(fingerprint, answer, Ticket(self._served.batches.store))
        self.kept_bytes += len(answer)
        if len(self._kept) > limits.requests or self.kept_bytes > limits.kept_bytes:
            self._make_room(limits)
        if self._served.telemetry:
            self._served.telemetry.emit(
                "masked.answered", elapsed, backend=self._served.backend.name, modules=len(results), tokens=tokens
            )
        kept.ticket.require("Session")
        return answer

    def _make_room(self, limits: ServerLimits) -> None:
        """Drop the oldest answers: a message whose answer is gone is refused, since its correlations are used."""
        while len(self._kept) > 1 and (len(self._kept) > limits.requests or self.kept_bytes > limits.kept_bytes):
            _, oldest = self._kept.popitem(last=False)
            self.kept_bytes -= len(oldest.answer)
