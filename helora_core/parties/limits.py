"""How much a server holds for clients at most. It refuses more, and loses nothing that it already holds."""

from __future__ import annotations

import msgspec

from helora_core.parties.messages import MOST_MESSAGE_BYTES


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a server keeps.

    Attributes:
        sessions: Clients at once.
        requests: Requests of one session that are in flight, or whose last answer is kept.
        kept_bytes: Bytes of the answers that one session keeps in case the client asks again.
        idle_s: Seconds without a message after which a request is dropped.
        message_bytes: Largest message that is read; stated in the offer, so that clients send no larger ones.
        tokens: Most tokens of one request.
        correlations: Most correlations that are kept for one client until it uses them: a byte each, since only
            the seeds of masks are kept.
        queries: Most correlations that a client is ever given; None for any number. It takes a store to count them
            beyond the client's sessions. ``Plan.queries_to_copy`` says how many would give the adapter away.
        batches: Most batches of correlations that are kept for one client: some hundred bytes each. What all clients
            may have in the store together, also those that never come back, is bounded by the store's own budget.
    """

    sessions: int = 32
    requests: int = 64
    kept_bytes: int = 256 << 20
    idle_s: float = 300.0
    message_bytes: int = MOST_MESSAGE_BYTES
    tokens: int = 4096
    correlations: int = 1 << 20
    queries: int | None = None
    batches: int = 64
