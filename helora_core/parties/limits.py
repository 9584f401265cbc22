"""How much a server holds for others at most; what is over is refused, and nothing that was there is lost for it."""

from __future__ import annotations

import msgspec

from helora_core.parties.messages import MOST_MESSAGE_BYTES


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a server keeps.

    Attributes:
        sessions: Clients at once.
        requests: Requests of one session that are in flight or whose last answer is kept.
        kept_bytes: Bytes of the answers that one session keeps for clients who ask again.
        idle_s: Seconds after which a request that nobody asked about is dropped.
        message_bytes: Largest message that is read; offered to clients, which send no larger ones.
        tokens: Most tokens of one request.
        correlations: Most correlations that are kept for one client until it uses them: a byte each, since of masks
            the seeds are kept.
        batches: In how many preparations they may have been made: some hundred bytes each.
    """

    sessions: int = 32
    requests: int = 64
    kept_bytes: int = 256 << 20
    idle_s: float = 300.0
    message_bytes: int = MOST_MESSAGE_BYTES
    tokens: int = 4096
    correlations: int = 1 << 20
    batches: int = 64
