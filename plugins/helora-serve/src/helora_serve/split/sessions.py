"""All sessions of mode ``split``: who may open one, and whose cache makes room.

Everything here runs in the event loop, but for the layers, which run in one thread for all sessions, one request after
another. A session whose cache made room for another one's goes on from position 0.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from helora_core.errors import ConnectionLost, InvalidInput, LimitExceeded, UnexpectedMessage, VersionMismatch
from helora_serve.auth import Identity
from helora_serve.budget import Budget
from helora_serve.limits import Limits
from helora_serve.metering import Meter
from helora_serve.metrics import Metrics
from helora_serve.mode import SPLIT
from helora_serve.refusals import Refusing
from helora_serve.split.frames import Forward, SplitOpen
from helora_serve.split.layers import Layers
from helora_serve.split.session import SplitSession

_LOG = logging.getLogger("helora.serve.split")


class SplitSessions:
    """All sessions.

    Args:
        layers: What runs.
        limits: The limits.
        metrics: Counts.
        budget: The tokens that each client has had; counted in memory alone if None.
        clock: Seconds, monotonic.

    Attributes:
        layers, limits, metrics, clock: The same.
        most_tokens, most_positions: Of a request, and of a context.
    """

    def __init__(
        self,
        layers: Layers,
        limits: Limits,
        metrics: Metrics,
        budget: Budget | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.layers, self.limits, self.metrics, self.clock = layers, limits, metrics, clock
        row_bytes = 4 * layers.base.hidden
        self.most_tokens = max(1, min(limits.split_tokens, limits.message_bytes // row_bytes))
        self.most_positions = min(layers.positions, limits.split_cache_bytes // layers.bytes_per_position)
        self._meter = Meter(budget or Budget(None, limits.queries), metrics, SPLIT, _half_used)
        self.draining = False
        self._sessions: dict[str, SplitSession] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="helora-layers")

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def cache_bytes(self) -> int:
        """Bytes of all caches."""
        return sum(each.reserved for each in self._sessions.values()) * self.layers.bytes_per_position

    async def run(self, work: Callable[[], Any]) -> Any:
        """What some work with the layers results in; it runs in their thread, once it is its turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """The same for threads, which wait for it."""
        return self._thread.submit(work).result()

    def open(self, identity: Identity, opening: SplitOpen) -> SplitSession:
        """A new session.

        Raises:
            Refusing: ``limit-exceeded``, as many are open as may be, in all or of a client that has a name;
                ``connection-lost``, the server is stopping.
            VersionMismatch: The base model is another one.
            InvalidInput: There is no such adapter.
        """
        self._require_open()
        if not hmac.compare_digest(opening.base, self.layers.base.sha256):
            raise VersionMismatch(
                "Split: the client's base model is not this server's.",
                hint=f"Take {self.layers.base.name}, with the digest that GET /v1/split/offer names.",
            )
        if opening.adapter is not None and opening.adapter not in self.layers.adapters:
            raise InvalidInput(
                "Split: there is no such adapter.", hint=f"There is {', '.join(self.layers.adapters) or 'none'}."
            )
        own = [each for each in self._sessions.values() if identity.name and each.identity == identity]
        limits = self.limits
        if len(own) >= limits.client_sessions and not self._made_room(own):
            raise _full(f"this client has {limits.client_sessions} sessions")
        if len(self._sessions) >= limits.sessions and not self._made_room(self._sessions.values()):
            raise _full(f"{limits.sessions} sessions are open")
        session = SplitSession(self, identity, opening, self._meter.admit(identity))
        self._sessions[session.name] = session
        _LOG.info("session %s opened", session.name[:8])
        return session

    def resume(self, identity: Identity, name: str, token: bytes) -> SplitSession:
        """A session that goes on.

        Raises:
            UnexpectedMessage: There is none, or no longer; or it is another client's.
        """
        self._require_open()
        session = self._sessions.get(name)
        if session is None or not session.matches(identity, token):
            raise UnexpectedMessage(
                "Server: there is no such session, or no longer.", hint="Open another one, and begin at position 0."
            )
        return session

    def require(self, session: SplitSession, header: Forward) -> None:
        """Check a request, and make room for it.

        Raises:
            UnexpectedMessage: It does not follow what is cached.
            LimitExceeded: It has too many rows, or the context too many positions.
            Refusing: Others' caches take the room, and all are in use.
        """
        if header.position > session.position:
            raise UnexpectedMessage(
                f"Split: position {header.position} has come, and the cache ends at {session.position}.",
                hint="Go on from there: send what comes after it again.",
            )
        if header.tokens > self.most_tokens:
            raise LimitExceeded(
                f"Split: {header.tokens} rows; a request has at most {self.most_tokens}.", hint="Send several."
            )
        end = header.position + header.tokens
        if end > self.most_positions:
            raise LimitExceeded(
                f"Split: the context would have {end} positions; it has at most {self.most_positions}.",
                hint="Begin a shorter one.",
            )
        session.reserved = max(end, session.position)
        self._make_room(session)

    def end(self, session: SplitSession, why: str) -> None:
        """End a session."""
        if self._sessions.pop(session.name, None) is not None:
            _LOG.info("session %s ended: %s", session.name[:8], why)
            session.forget()

    def sweep(self) -> None:
        """End the sessions that nothing came for."""
        now = self.clock()
        for session in list(self._sessions.values()):
            if now - session.touched > self.limits.ttl_s and not session.busy:
                self._drop(
                    session,
                    UnexpectedMessage("Server: nothing came for the session for too long.", hint="Open another one."),
                    "nothing came",
                )

    async def drain(self) -> None:
        """Open and resume nothing more, and wait for the answers in hand, as long as the limits allow."""
        self.draining = True
        deadline = self.clock() + self.limits.drain_s
        while self.clock() < deadline and any(each.busy for each in self._sessions.values()):
            await asyncio.sleep(0.02)
        for session in list(self._sessions.values()):
            self._drop(session, _stopping(), "the server stops")

    def close(self) -> None:
        """Wait for what is in hand, and let go of the model."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.layers.close()

    def _drop(self, session: SplitSession, error: Exception, why: str) -> None:
        if session.socket is not None:
            session.socket.drop(error, resumable=False)
        self.end(session, why)

    def _require_open(self) -> None:
        if self.draining:
            raise Refusing(_stopping(), retry_s=5.0)

    def _made_room(self, among: Iterable[SplitSession]) -> bool:
        """End the session that was left longest ago, if any."""
        now = self.clock()
        left = [
            each for each in among if each.socket is None and not each.busy and now - each.touched > self.limits.hello_s
        ]
        if left:
            self.end(min(left, key=lambda each: each.touched), "left, and another client came")
        return bool(left)

    def _make_room(self, session: SplitSession) -> None:
        """Drop the caches that were used longest ago until this session's has room."""
        while self.cache_bytes > self.limits.split_cache_bytes:
            idle = [each for each in self._sessions.values() if each is not session and each.reserved and not each.busy]
            if not idle:
                raise Refusing(
                    LimitExceeded("Split: all caches are in use, and there is no room for this one.",
                                  hint="Try again later."),
                    retry_s=1.0,
                )  # fmt: skip
            oldest = min(idle, key=lambda each: each.touched)
            _LOG.info("session %s: its cache made room for another one's", oldest.name[:8])
            oldest.forget()


def _half_used(queries: int, limit: int) -> None:
    _LOG.warning("a client has had %d tokens of an adapter, and may have %d", queries, limit)


def _stopping() -> ConnectionLost:
    return ConnectionLost("Server: it is stopping.", hint="Connect again once it is back.")


def _full(what: str) -> Refusing:
    error = LimitExceeded(f"Server: {what}, and no more are allowed.", hint="Try again once one has ended.")
    return Refusing(error, retry_s=5.0)
