"""All sessions at the server. A socket only points at one: it goes on when the socket is gone, until nobody comes back.

Everything here runs in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from helora_core.errors import ConnectionLost, LimitExceeded, UnexpectedMessage
from helora_serve.auth import Identity
from helora_serve.budget import Budget, copies_of, parts_of
from helora_serve.catalogue import Catalogue
from helora_serve.keys import KeyStore
from helora_serve.limits import Limits
from helora_serve.metrics import Metrics
from helora_serve.refusals import Refusing
from helora_serve.session import ServedSession
from helora_serve.turns import Turns
from helora_serve.worker import Worker

_LOG = logging.getLogger("helora.serve")


class Sessions:
    """All sessions.

    Args:
        catalogue: The versions served.
        keys: The evaluation keys.
        budget: Counts queries.
        worker: Computes.
        limits: The limits.
        metrics: Counts.
        clock: Seconds, monotonic.

    Attributes:
        limits, worker, metrics, clock: The same.
        copies: By the names of versions how many queries give each module away.
        turns: What is answered in the event loop takes them.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        keys: KeyStore,
        budget: Budget,
        worker: Worker,
        limits: Limits,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.worker, self.metrics, self.clock = limits, worker, metrics, clock
        self.copies: dict[str, dict[str, int]] = {}
        self.turns = Turns()
        self._parts: dict[str, dict[str, tuple[str, ...]]] = {}
        self.draining = False
        self._catalogue, self._keys, self._budget = catalogue, keys, budget
        self._sessions: dict[str, ServedSession] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._opening: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def all(self) -> tuple[ServedSession, ...]:
        """All sessions."""
        return tuple(self._sessions.values())

    async def open(self, identity: Identity, version: str, keys: str) -> ServedSession:
        """A new session.

        Raises:
            Refusing: ``limit-exceeded``, as many are open as may be, in all or of this client; ``connection-lost``, the
                server is stopping.
            VersionMismatch: The version is not served.
            UnexpectedMessage: The keys are not here.
            HeloraError: As ``Server.open`` raises it.
        """
        self._require_open()
        who = identity.place if identity.name else keys[:32]
        own = [each for each in self.all if each.account.who == who]
        limits = self.limits
        if len(own) + self._opening[who] >= limits.client_sessions and not self._made_room(own):
            raise self._full(f"this client has {_sessions(limits.client_sessions)}", own)
        if len(self._sessions) + self._opening.total() >= limits.sessions and not self._made_room(self.all):
            raise self._full(f"there are {_sessions(limits.sessions)}", self.all)
        found = self._catalogue.find(version)
        if found.name not in self.copies:
            self.copies[found.name], self._parts[found.name] = copies_of(found), parts_of(found)
        parts = self._parts[found.name]
        if not self._keys.has(identity, keys):
            self._keys.read(identity, keys)
        self._opening[who] += 1
        found.sessions += 1
        try:
            account = await asyncio.to_thread(self._budget.account, who)

            def admit(modules: Any, tokens: int) -> None:
                named = [part for module in modules for part in parts[module]]
                account.admit(named, tokens)
                self.metrics.queries.inc(len(named) * tokens)

            core = await self.worker.open(found.server, lambda: self._keys.read(identity, keys), admit)
        except BaseException:
            found.sessions -= 1
            raise
        finally:
            self._opening[who] -= 1
            self._opening += Counter()  # forgets those that are 0
        session = ServedSession(self, identity, keys, found, account)
        session.start(core)
        self._sessions[session.name] = session
        if self.draining:  # since it began to open
            self.end(session, "the server stops")
            self._require_open()
        self.metrics.opened.inc()
        _LOG.info("session %s opened", session.name[:8])
        return session

    def resume(self, identity: Identity, name: str, token: bytes) -> ServedSession:
        """A session that goes on.

        Raises:
            UnexpectedMessage: There is none, or no longer; or it is another client's.
        """
        self._require_open()
        session = self._sessions.get(name)
        if session is None or not session.matches(identity, token):
            raise UnexpectedMessage(
                "Server: there is no such session, or no longer.",
                hint="Open another one; a request of several rounds has to be begun anew.",
            )
        self.metrics.resumed.inc()
        return session

    def end(self, session: ServedSession, why: str) -> None:
        """End a session, and drop its version if it was its last."""
        if self._sessions.pop(session.name, None) is None:
            return
        _LOG.info("session %s ended: %s", session.name[:8], why)
        session.end()
        task = asyncio.get_running_loop().create_task(self._let_go(session))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _let_go(self, session: ServedSession) -> None:
        await session.ended()
        session.version.sessions -= 1
        self._catalogue.prune()
        served = {each.name for each in self._catalogue.versions}
        for name in self.copies.keys() - served:
            del self.copies[name], self._parts[name]

    def sweep(self) -> None:
        """End the sessions that nothing came for."""
        now, tick = self.clock(), time.monotonic()
        for session in self.all:
            if session.socket is not None:
                session.socket.require_taking(tick)
            if now - session.touched > self.limits.ttl_s and not session.computing:
                self.metrics.expired.inc()
                if session.socket is not None:
                    session.socket.drop(
                        UnexpectedMessage("Server: nothing came for the session for too long.",
                                          hint="Open another one."),
                        resumable=False,
                    )  # fmt: skip
                self.end(session, "nothing came")

    async def drain(self) -> None:
        """Open and resume nothing more, and wait for the answers in hand to be taken, as long as the limits allow."""
        self.draining = True
        deadline = self.clock() + self.limits.drain_s
        while self.clock() < deadline and any(
            each.computing or (each.socket is not None and (each.busy or each.socket.sent < each.exchange.answered))
            for each in self.all
        ):
            await asyncio.sleep(0.02)
        stopping = ConnectionLost("Server: it is stopping.", hint="Connect again once it is back.")
        for session in self.all:
            if session.socket is not None:
                session.socket.drop(stopping, resumable=False)
            self.end(session, "the server stops")
        if self._ending:
            await asyncio.wait(list(self._ending), timeout=self.limits.drain_s)

    def _require_open(self) -> None:
        if self.draining:
            raise Refusing(
                ConnectionLost("Server: it is stopping.", hint="Connect again once it is back."), retry_s=5.0
            )

    def _made_room(self, among: Sequence[ServedSession]) -> bool:
        """End the session that was left longest ago and holds nothing that another one could not do again, if any."""
        now = self.clock()
        left = [
            each
            for each in among
            if each.socket is None and not each.computing and not each.core.in_flight
            and now - each.touched > self.limits.hello_s
        ]  # fmt: skip
        if left:
            self.end(min(left, key=lambda each: each.touched), "left, and another one came")
        return bool(left)

    def _full(self, what: str, among: Sequence[ServedSession]) -> Refusing:
        idle = [each.touched for each in among if not each.busy]
        soonest = max(1.0, min(idle) + self.limits.ttl_s - self.clock()) if idle else self.limits.ttl_s
        return Refusing(
            LimitExceeded(f"Server: {what}, and no more are allowed.", hint="Try again once one has ended."),
            retry_s=soonest,
        )


def _sessions(count: int) -> str:
    return f"{count} session{'s' * (count != 1)}"
