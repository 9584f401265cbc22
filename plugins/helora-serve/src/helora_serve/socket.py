"""``/v1/delta``: one socket, which opens a session or takes one up again, and carries its frames."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from starlette.websockets import WebSocket

from helora_core.errors import CorruptPayload, InvalidInput, UnexpectedMessage
from helora_serve.auth import Identity
from helora_serve.channel import CODES, POLICY, Channel, Ended, Gone
from helora_serve.frames import (
    SUBPROTOCOL,
    Ack,
    Ask,
    Close,
    FromClient,
    Goodbye,
    Notice,
    Open,
    Resume,
    Welcome,
    decode_from_client,
    encode,
)
from helora_serve.mode import CLIENT_KEY
from helora_serve.refusals import Refusing, refusal_of
from helora_serve.session import ServedSession
from helora_serve.sessions import Sessions

_LOG = logging.getLogger("helora.serve")


class DeltaSocket:
    """One socket, once it is accepted.

    Args:
        channel: What carries its frames.
        sessions: All sessions.
        identity: Who is at the other end.

    Attributes:
        sent: The number of the last answer that was sent.
    """

    def __init__(self, channel: Channel, sessions: Sessions, identity: Identity) -> None:
        self._channel, self._sessions, self._identity = channel, sessions, identity
        self._session: ServedSession | None = None
        self._wake = asyncio.Event()
        self.sent = 0
        self._farewell: tuple[Exception, bool] | None = None
        self._all_has_come = False
        self._sending_since: float | None = None
        self._writer: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def drop(self, error: Exception, *, resumable: bool) -> None:
        """End the socket, and say why."""
        self._farewell = self._farewell or (error, resumable)
        self._wake.set()
        if self._writer is not None:  # it may be sending what nobody takes, and hear nothing of this
            asyncio.get_running_loop().call_later(2 * self._sessions.limits.stall_s, self._writer.cancel)

    def require_taking(self, now: float) -> None:
        """End the socket if what is sent there has not been taken for too long.

        Args:
            now: Of the monotonic clock.
        """
        since = self._sending_since
        if since is not None and now - since > self._sessions.limits.stall_s and self._writer is not None:
            _LOG.info("a socket takes nothing, and ends")
            self._writer.cancel()

    async def run(self) -> None:
        """Until it ends."""
        try:
            session = await self._first()
        except Gone:
            return
        except Exception as error:
            await self._say_goodbye(error, resumable=False)
            return
        reader, writer = asyncio.create_task(self._read(session)), asyncio.create_task(self._write(session))
        self._writer = writer
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED, timeout=self._channel.seconds)
            ended = reader.exception() if reader.done() else None
            if isinstance(ended, Exception) and not isinstance(ended, Gone):
                self.drop(ended, resumable=True)
                await asyncio.wait((writer,), timeout=2 * self._sessions.limits.stall_s)
        finally:
            self._leave(session)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _first(self) -> ServedSession:
        """Attach to the session that the first frame names, and welcome the client."""
        try:
            header, _ = await asyncio.wait_for(self._frame(), self._sessions.limits.hello_s)
        except (asyncio.TimeoutError, Ended):
            raise InvalidInput(
                "Server: the socket did not say in time which session it is for.",
                hint="Send open or resume first.",
            ) from None
        limits = self._sessions.limits
        if isinstance(header, Open):
            session = await self._sessions.open(self._identity, header.version, header.keys)
            token = session.first_token
            session.first_token = b""
        elif isinstance(header, Resume):
            session, token = self._sessions.resume(self._identity, header.session, header.token), b""
            session.acknowledge(header.received)
            self.sent = header.received
        else:
            raise UnexpectedMessage("Server: the first frame is neither open nor resume.", hint="Send one of them.")
        if session.socket is not None:
            session.socket.drop(
                UnexpectedMessage("Server: the session goes on at another socket.", hint="Use that one."),
                resumable=True,
            )
        session.socket, self._session = self, session
        session.touched = self._sessions.clock()
        welcome = Welcome(
            session=session.name,
            token=token,
            requested=session.exchange.requested,
            credits=limits.credits,
            credit_bytes=limits.credit_bytes,
            message_bytes=limits.message_bytes,
            window_bytes=limits.window_bytes,
            ttl_s=limits.ttl_s,
            mode=CLIENT_KEY,
        )
        try:
            await self._channel.send(encode(welcome))
        except BaseException:
            self._leave(session)  # whoever waited for the welcome is gone
            raise
        return session

    def _leave(self, session: ServedSession) -> None:
        if session.socket is self:
            session.socket = None

    async def _read(self, session: ServedSession) -> None:
        while True:
            try:
                header, payload = await self._frame()
            except Ended:
                self._all_has_come = True
                self._wake.set()
                await self._channel.gone()
                return
            if isinstance(header, Ask):
                await self._sessions.turns.mine()
            if session.socket is not self:
                raise UnexpectedMessage("Server: the session goes on at another socket.", hint="Use that one.")
            session.touched = self._sessions.clock()
            if isinstance(header, Ask):
                if len(payload) > self._sessions.limits.message_bytes:
                    raise CorruptPayload("Server: the message is longer than the welcome allows.", hint="Send less.")
                if session.ask(header, payload):
                    await self._send(session)
            elif isinstance(header, Ack):
                session.acknowledge(header.received)
            elif isinstance(header, Close):
                self._sessions.end(session, "closed by the client")
                await self._channel.close()
                return
            else:
                raise UnexpectedMessage("Server: the socket has its session already.", hint="Send requests.")

    async def _frame(self) -> tuple[FromClient, memoryview]:
        return decode_from_client(await self._channel.receive())

    async def _write(self, session: ServedSession) -> None:
        """Send what the session's window has, as fast as the client takes it."""
        while self._farewell is None:
            self._wake.clear()
            if session.to_be_noticed and self._sending_since is None:
                queries, allowed, share = session.usage
                _LOG.warning("session %s: half of the budget of queries is used", session.name[:8])
                await self._put(encode(Notice(queries=queries, limit=allowed, share_of_copy=share)))
                session.noticed = True
            await self._send(session)
            if self._all_has_come and self._answered(session):
                await self._channel.close()
                return
            if self._farewell is None:
                await self._wake.wait()
        await self._say_goodbye(*self._farewell)

    async def _send(self, session: ServedSession) -> None:
        """Send the answers in the window; whoever is at it sends those too that come meanwhile."""
        if self._sending_since is not None:
            return
        for kept in session.exchange.after(self.sent):
            if self._farewell is not None:
                return
            self._sessions.metrics.sent.observe(await self._put(encode(kept.header, kept.payload)))
            self.sent = kept.header.number

    async def _put(self, frame: bytes) -> float:
        """Send a frame. Returns the seconds that it took."""
        self._sending_since = start = time.monotonic()
        await self._channel.send(frame)
        self._sending_since = None
        return time.monotonic() - start

    def _answered(self, session: ServedSession) -> bool:
        """Whether all is sent that can be made without a word from the client."""
        exchange = session.exchange
        return self.sent >= exchange.answered and not (session.busy and exchange.has_room)

    async def _say_goodbye(self, error: Exception, resumable: bool) -> None:
        told = refusal_of(error)
        self._sessions.metrics.refusals.labels(told.code).inc()
        goodbye = Goodbye(
            code=told.code, message=told.message, hint=told.hint, retry_s=told.retry_s, resumable=resumable
        )

        async def say() -> None:
            await self._channel.send(encode(goodbye))
            await self._channel.close(CODES.get(told.code, POLICY), told.code)

        with suppress(Exception):  # the client may be gone, or take nothing
            await asyncio.wait_for(say(), self._sessions.limits.stall_s)


def accepted(socket: WebSocket, subprotocol: str = SUBPROTOCOL) -> None:
    """Check that the client speaks a version that is spoken here.

    Raises:
        Refusing: It does not, by status 400.
    """
    if subprotocol not in socket.scope.get("subprotocols", ()):
        error = InvalidInput(
            f"Server: it speaks {subprotocol}, which the client did not offer.", hint="Use the same version of helora."
        )
        raise Refusing(error, status=400)
