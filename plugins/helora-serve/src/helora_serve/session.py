"""One session at the server: its requests and answers, which outlive sockets, and the task that has them computed.

Everything here runs in the event loop. The task hands one request after another to the worker, as long as the session's
window has room; so the worker takes turns between sessions, and no client waits for a slow one. A request that is quick
to answer is answered in the loop, if no other of its session is in hand.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from helora_serve.auth import Identity
from helora_serve.budget import Account, Usage
from helora_serve.catalogue import Version
from helora_serve.exchange import Exchange
from helora_serve.frames import TOKEN_BYTES, Answer, Ask, Refused
from helora_serve.limits import Limits
from helora_serve.metrics import Metrics
from helora_serve.refusals import Refusal, refusal_of
from helora_serve.worker import Worker

_AT_ONCE_WINDOW = 32 << 10
"""Bytes that may wait for the client beside an answer that is given at once: the transport takes them all, so that
whoever reads its requests is not held up by sending."""


class Shared(Protocol):
    """What all sessions share.

    Attributes:
        limits, worker, metrics, clock: As of ``Sessions``.
        copies: By the names of versions how many queries give each module away.
    """

    @property
    def limits(self) -> Limits: ...
    @property
    def worker(self) -> Worker: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def copies(self) -> Mapping[str, Mapping[str, int]]: ...


class Socket(Protocol):
    """What a session is attached to.

    Attributes:
        sent: The number of the last answer that was sent there.
    """

    sent: int

    def wake(self) -> None:
        """There is something to send."""
        ...

    def drop(self, error: Exception, *, resumable: bool) -> None:
        """End it, and say why."""
        ...

    def require_taking(self, now: float) -> None:
        """End it if its client takes nothing."""
        ...


class ServedSession:
    """One session.

    Args:
        service: What all sessions share.
        identity: Whose it is.
        keys: Digest of its evaluation keys.
        version: What it is for.
        account: What counts its queries.

    Attributes:
        name, token: What resumes it; of the token its SHA-256 alone is kept.
        exchange: Its requests and answers.
        touched: When the last frame came.
        socket: The socket that is attached.
    """

    def __init__(self, service: Shared, identity: Identity, keys: str, version: Version, account: Account) -> None:
        self.name, token = secrets.token_hex(16), secrets.token_bytes(TOKEN_BYTES)
        self.first_token = token
        self._token = hashlib.sha256(token).digest()
        self.identity, self.keys, self.version, self.account = identity, keys, version, account
        self.exchange = Exchange(service.limits)
        self.touched = service.clock()
        self.socket: Socket | None = None
        self.noticed = False
        limits = [*service.copies[version.name].values(), *filter(None, [service.limits.queries])]
        self._notable_from = min(limits, default=0) // 2
        self.core: Any = None
        self._service = service
        self._inbox: deque[tuple[Ask, bytes, float]] = deque()
        self._changed = asyncio.Event()
        self.ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self, core: Any) -> None:
        """Begin to compute, with the worker's own session."""
        self.core = core
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"helora-session-{self.name[:8]}")

    @property
    def busy(self) -> bool:
        """Whether a request has no answer yet."""
        return self.exchange.in_flight > 0

    @property
    def computing(self) -> bool:
        """Whether a request is computed, or will be without a word from the client: one that acknowledges nothing may
        have requests that wait for its window to have room.
        """
        return self.busy and self.exchange.has_room

    @property
    def to_be_noticed(self) -> bool:
        """Whether the client has to be told of its budget now: when half of it is used, until it was ``noticed``."""
        if self.noticed or self.account.most < self._notable_from:
            return False
        return self.usage.notable

    @property
    def usage(self) -> Usage:
        """The queries that its client has had."""
        return self.account.usage(self._service.copies[self.version.name])

    def matches(self, identity: Identity, token: bytes) -> bool:
        """Whether it is resumed by this token, and by whom it belongs to."""
        same = hmac.compare_digest(hashlib.sha256(token).digest(), self._token)
        return same and identity == self.identity

    def ask(self, header: Ask, message: memoryview) -> bool:
        """A request has come. Returns whether its answer is there already: if nothing is before it and it is quick. The
        transport takes such an answer without waiting. Errors are those of ``Exchange.ask``.
        """
        new = self.exchange.ask(header.request, len(message), header.received)
        if not new:
            self._changed.set()
            return False
        asked, start = bytes(message), time.perf_counter()
        if self.exchange.in_flight == 1 and self.exchange.window_bytes < _AT_ONCE_WINDOW and not self.ending:
            try:
                payload = self._service.worker.at_once(self.core, asked)
            except Exception as error:
                self._settle(header, len(message), start, refusal_of(error))
                return True
            if payload is not None:
                self._settle(header, len(message), start, payload)
                return True
        self._inbox.append((header, asked, start))
        self._changed.set()
        return False

    def acknowledge(self, received: int) -> None:
        """The client has answers. Errors are those of ``Exchange.acknowledge``."""
        self.exchange.acknowledge(received)
        self._changed.set()

    def end(self) -> None:
        """Compute nothing more; what is in hand is finished, and thrown away."""
        self.ending = True
        self._changed.set()

    async def ended(self) -> None:
        """Wait until it is."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        service, metrics = self._service, self._service.metrics
        try:
            while not self.ending:
                if not self._inbox or not self.exchange.has_room:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                header, message, came = self._inbox.popleft()
                start = time.perf_counter()
                metrics.waiting.observe(start - came)
                outcome: bytes | Refusal
                try:
                    outcome = await service.worker.submit(self.core, message)
                except Exception as error:
                    outcome = refusal_of(error)
                self._settle(header, len(message), start, outcome)
                if self.socket is not None:
                    self.socket.wake()
        finally:
            self._inbox.clear()
            await service.worker.end(self.core)

    def _settle(self, header: Ask, size: int, start: float, outcome: bytes | Refusal) -> None:
        """Keep the answer to a request, or its refusal, and count it."""
        metrics, number, request = self._service.metrics, self.exchange.answered + 1, header.request
        metrics.compute.observe(time.perf_counter() - start)
        if isinstance(outcome, bytes):
            metrics.count("", size, len(outcome))
            self.exchange.answer(Answer(number=number, request=request), outcome)
            return
        code, message, hint, retry_s = outcome.code, outcome.message, outcome.hint, outcome.retry_s
        metrics.count(code, size, 0)
        self.exchange.answer(
            Refused(number=number, request=request, code=code, message=message, hint=hint, retry_s=retry_s)
        )
