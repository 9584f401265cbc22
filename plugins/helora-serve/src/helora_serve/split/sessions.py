"""Sessions of mode ``split``: each has the keys and values of one context, and the last answer.

Everything here runs in the event loop, but for the layers, which run in one thread for all sessions, one request after
another. A session whose cache made room for another one's goes on from position 0.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from helora_core.errors import (
    ConnectionLost,
    CorruptPayload,
    InvalidInput,
    LimitExceeded,
    UnexpectedMessage,
    VersionMismatch,
)
from helora_serve.auth import Identity
from helora_serve.frames import TOKEN_BYTES
from helora_serve.limits import Limits
from helora_serve.metrics import Metrics
from helora_serve.refusals import Refusing, refusal_of
from helora_serve.split.frames import Forward, Hidden, SplitOpen, SplitRefused, encode, payload_of, rows_of
from helora_serve.split.layers import Layers

_LOG = logging.getLogger("helora.serve.split")


class Dropped(Protocol):
    """A socket, as far as a session knows it."""

    def drop(self, error: Exception, *, resumable: bool) -> None:
        """End it, and say why."""
        ...


class SplitSession:
    """One session.

    Args:
        sessions: What all of them share.
        identity: Whose it is.
        opening: What it was opened with.

    Attributes:
        name, first_token: What resumes it; of the token its SHA-256 alone is kept.
        requested: Number of the last request.
        position: Where the cache ends.
        reserved: Positions that it has or is about to have.
        touched: When the last frame came.
        socket: The socket that is attached.
        sending: How many sockets wait for an answer or send one.
    """

    def __init__(self, sessions: SplitSessions, identity: Identity, opening: SplitOpen) -> None:
        self.name, self.first_token = secrets.token_hex(16), secrets.token_bytes(TOKEN_BYTES)
        self._token = hashlib.sha256(self.first_token).digest()
        self._identity, self._opening, self._sessions = identity, opening, sessions
        self.requested = self.position = self.reserved = self.sending = 0
        self.touched = sessions.clock()
        self.socket: Dropped | None = None
        self._cache: Any = None
        self._fingerprint = b""
        self._answer: asyncio.Task[bytes] | None = None

    @property
    def busy(self) -> bool:
        """Whether a request has no answer yet, or one that is on its way to the socket."""
        return self.sending > 0 or self._computing

    @property
    def _computing(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def matches(self, identity: Identity, token: bytes) -> bool:
        """Whether it is resumed by this token, and by whom it belongs to."""
        return hmac.compare_digest(hashlib.sha256(token).digest(), self._token) and identity == self._identity

    def forget(self) -> None:
        """Drop the cache."""
        self._cache, self.position, self.reserved = None, 0, 0

    async def answer(self, header: Forward, payload: memoryview) -> bytes:
        """The frame that answers a request: of the last one, the answer that was kept.

        Raises:
            UnexpectedMessage: A request before it is missing, or has no answer yet, or it was another one. It does not
                count as received.
        """
        digest = hashlib.sha256(repr((header.position, header.tokens, header.last)).encode())
        digest.update(payload)
        fingerprint = digest.digest()
        if header.request == self.requested and self._answer is not None:
            if fingerprint != self._fingerprint:
                raise UnexpectedMessage(
                    f"Split: request {header.request} was another one.", hint="Give another request another number."
                )
        elif header.request != self.requested + 1:
            raise UnexpectedMessage(
                f"Split: request {header.request} has come, and not {self.requested + 1}.",
                hint="Number requests 1, 2, 3, …; only the last one's answer is kept.",
            )
        elif self._computing:
            raise UnexpectedMessage(
                f"Split: request {self.requested} has no answer yet.", hint="Wait for it before the next one."
            )
        else:
            self.requested, self._fingerprint = header.request, fingerprint
            self._answer = asyncio.get_running_loop().create_task(self._answered(header, bytes(payload)))
        return await asyncio.shield(self._answer)

    async def _answered(self, header: Forward, payload: bytes) -> bytes:
        code, start = "", time.perf_counter()
        try:
            self._sessions.require(self, header)
            tokens, answer = await self._sessions.run(lambda: self._forward(header, payload))
            frame = encode(Hidden(request=header.request, tokens=tokens, position=self.position), answer)
        except Exception as error:
            told = refusal_of(error)
            code = told.code
            frame = encode(
                SplitRefused(
                    request=header.request, position=self.position, code=code, message=told.message, hint=told.hint,
                    retry_s=told.retry_s,
                )
            )  # fmt: skip
        finally:
            self.reserved = self.position
        self.touched = self._sessions.clock()
        self._sessions.metrics.count_split(code, header.tokens, time.perf_counter() - start)
        return frame

    def _forward(self, header: Forward, payload: bytes) -> tuple[int, bytes]:
        """In the thread of the layers."""
        layers, opening = self._sessions.layers, self._opening
        rows = rows_of(payload, header.tokens, layers.base.hidden, opening.dtype)
        if not np.isfinite(rows).all():
            raise InvalidInput("Split: a hidden state is not finite.", hint="Send rows of the embedding, and no NaN.")
        try:
            out, self._cache = layers.forward(rows, self._cache, header.position, opening.adapter)
        except BaseException:
            self.position = header.position
            raise
        self.position = header.position + header.tokens
        wanted = out[-1:] if header.last else out
        answer = payload_of(wanted, opening.dtype)
        if not np.isfinite(rows_of(answer, len(wanted), layers.base.hidden, opening.dtype)).all():
            raise InvalidInput(
                f"Split: a hidden state is not finite in {opening.dtype}.", hint="Open the session with float32."
            )
        return len(wanted), answer


class SplitSessions:
    """All sessions.

    Args:
        layers: What runs.
        limits: The limits.
        metrics: Counts.
        clock: Seconds, monotonic.

    Attributes:
        layers, limits, metrics, clock: The same.
        most_tokens, most_positions: Of a request, and of a context.
    """

    def __init__(
        self, layers: Layers, limits: Limits, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.layers, self.limits, self.metrics, self.clock = layers, limits, metrics, clock
        row_bytes = 4 * layers.base.hidden
        self.most_tokens = max(1, min(limits.split_tokens, limits.message_bytes // row_bytes))
        self.most_positions = min(layers.positions, limits.split_cache_bytes // layers.bytes_per_position)
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

    def open(self, identity: Identity, opening: SplitOpen) -> SplitSession:
        """A new session.

        Raises:
            Refusing: ``limit-exceeded``, as many are open as may be; ``connection-lost``, the server is stopping.
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
        if len(self._sessions) >= self.limits.sessions and not self._made_room():
            raise Refusing(
                LimitExceeded(f"Server: {self.limits.sessions} sessions are open, and no more are allowed.",
                              hint="Try again once one has ended."),
                retry_s=5.0,
            )  # fmt: skip
        session = SplitSession(self, identity, opening)
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

    def _made_room(self) -> bool:
        """End the session that was left longest ago, if any."""
        now = self.clock()
        left = [
            each
            for each in self._sessions.values()
            if each.socket is None and not each.busy and now - each.touched > self.limits.hello_s
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


def _stopping() -> ConnectionLost:
    return ConnectionLost("Server: it is stopping.", hint="Connect again once it is back.")


def require_forward(header: object) -> Forward:
    """Check that a frame is a request.

    Raises:
        CorruptPayload: It is not.
    """
    if not isinstance(header, Forward):
        raise CorruptPayload("Split: the socket has its session already.", hint="Send requests.")
    return header
