"""One session of mode ``split``: the keys and values of one context, and the last answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from helora_core.errors import CorruptPayload, InvalidInput, UnexpectedMessage
from helora_serve.auth import Identity
from helora_serve.frames import TOKEN_BYTES
from helora_serve.metrics import Metrics
from helora_serve.proxy.asked import Admit
from helora_serve.refusals import refusal_of
from helora_serve.split.frames import Forward, Hidden, SplitOpen, SplitRefused, encode, payload_of, rows_of
from helora_serve.split.layers import Layers


class Sharing(Protocol):
    """What all sessions share.

    Attributes:
        layers, metrics: What runs, and counts.
        clock: Seconds, monotonic.
    """

    layers: Layers
    metrics: Metrics
    clock: Callable[[], float]

    def require(self, session: SplitSession, header: Forward) -> None:
        """Check a request, and make room for it."""
        ...

    async def run(self, work: Callable[[], Any]) -> Any:
        """What some work with the layers results in."""
        ...


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
        admit: Counts tokens before they are run.

    Attributes:
        identity: The same.
        name, first_token: What resumes it; of the token its SHA-256 alone is kept.
        requested: Number of the last request.
        position: Where the cache ends.
        reserved: Positions that it has or is about to have.
        touched: When the last frame came.
        socket: The socket that is attached.
        sending: How many sockets wait for an answer or send one.
    """

    def __init__(self, sessions: Sharing, identity: Identity, opening: SplitOpen, admit: Admit) -> None:
        self.name, self.first_token = secrets.token_hex(16), secrets.token_bytes(TOKEN_BYTES)
        self._token = hashlib.sha256(self.first_token).digest()
        self.identity, self._opening, self._sessions = identity, opening, sessions
        self._admit = admit
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
        return hmac.compare_digest(hashlib.sha256(token).digest(), self._token) and identity == self.identity

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
        self._admit(opening.adapter, header.tokens)
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


def require_forward(header: object) -> Forward:
    """Check that a frame is a request.

    Raises:
        CorruptPayload: It is not.
    """
    if not isinstance(header, Forward):
        raise CorruptPayload("Split: the socket has its session already.", hint="Send requests.")
    return header
