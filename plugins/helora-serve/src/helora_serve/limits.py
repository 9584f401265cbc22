"""How much a server holds, reads and computes for its clients at most. Each limit has a default that is stated here."""

from __future__ import annotations

import msgspec

from helora_core.parties.limits import ServerLimits
from helora_serve.frames import FRAME_OVERHEAD


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a server. What exceeds one is refused by name, and loses nothing that is held.

    Attributes:
        sessions: Sessions at once; a client that refills pools has two.
        client_sessions: Sessions of one client at once: of a token's name, of a certificate, or, where nobody is asked
            for either, of the same evaluation keys.
        sockets: WebSockets at once.
        ttl_s: Seconds without a frame after which a session is dropped, whether a socket is attached or not.
        hello_s: Seconds in which a socket has to say which session it is for.
        credits: Requests of one session that may be in flight.
        credit_bytes: Bytes that they may have together, unless there is only one.
        window_bytes: Bytes of answers that are kept until the client has acknowledged them. Nothing is computed for a
            session whose window is full.
        message_bytes: Largest message of a request.
        tokens: Most tokens of one request.
        answer_bytes: Bytes of answers that a session keeps for messages that are repeated under another number.
        key_store_bytes: Bytes of evaluation keys on disk; those used longest ago go.
        keys_ttl_s: Seconds that keys which nobody uses stay on disk.
        uploads: Uploads of keys at once.
        stall_s: Seconds that an upload of keys may stand still, and a socket may take nothing.
        post_s: Seconds that a POST of frames waits for answers.
        queries: Queries of each module that a client may ever have, and tokens of each adapter in the modes ``split``
            and ``hosted``; None for any number.
        correlations: Correlations prepared ahead of time that one client may have.
        batches: Batches of them.
        weight_bytes: Bytes of encoded weights that are kept.
        drain_s: Seconds that answers in hand have when the server stops.
        split_tokens: Rows of a request in mode ``split``.
        split_cache_bytes: Bytes of keys and values that all sessions of mode ``split`` have together.
        compare_tokens: Tokens of an answer that is compared in mode ``hosted``.
        hosted_tokens: Tokens of any other answer there.
        hosted_waiting: Requests that wait there while another one is answered, and comparisons the same.
    """

    sessions: int = 32
    client_sessions: int = 8
    sockets: int = 128
    ttl_s: float = 300.0
    hello_s: float = 10.0
    credits: int = 8
    credit_bytes: int = 64 << 20
    window_bytes: int = 64 << 20
    message_bytes: int = 32 << 20
    tokens: int = 4096
    answer_bytes: int = 128 << 20
    key_store_bytes: int = 4 << 30
    keys_ttl_s: float = 86400.0
    uploads: int = 4
    stall_s: float = 30.0
    post_s: float = 25.0
    queries: int | None = None
    correlations: int = 1 << 20
    batches: int = 1024
    weight_bytes: int = 4 << 30
    drain_s: float = 30.0
    split_tokens: int = 1024
    split_cache_bytes: int = 2 << 30
    compare_tokens: int = 128
    hosted_tokens: int = 1024
    hosted_waiting: int = 8

    @property
    def of_server(self) -> ServerLimits:
        """The same, as far as ``helora_core.Server`` keeps to them."""
        return ServerLimits(
            sessions=2 * self.sessions,  # one of an older version may be ending
            requests=max(2 * self.credits, 16),
            kept_bytes=self.answer_bytes,
            idle_s=self.ttl_s,
            message_bytes=self.message_bytes,
            tokens=self.tokens,
            correlations=self.correlations,
            batches=self.batches,
        )

    @property
    def post_bytes(self) -> int:
        """Most bytes of the body of a POST of frames: all that may be in flight, and one message more."""
        return self.credit_bytes + self.message_bytes + (self.credits + 4) * (FRAME_OVERHEAD + 4)

    @property
    def session_bytes(self) -> int:
        """Bytes that one session may hold beside its keys: messages in flight and one being read, answers that are not
        acknowledged and one being made, and answers that core keeps.
        """
        return self.credit_bytes + self.window_bytes + 2 * self.message_bytes + self.answer_bytes
