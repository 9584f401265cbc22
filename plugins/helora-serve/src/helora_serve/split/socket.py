"""``/v1/split``: one socket, which opens a session or takes one up again, and answers its requests in turn."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from helora_core.errors import HeloraError, InvalidInput, UnexpectedMessage
from helora_serve.auth import Identity
from helora_serve.channel import CODES, POLICY, Channel, Ended, Gone
from helora_serve.frames import Close, Goodbye
from helora_serve.mode import SPLIT, SPLIT_WARNING
from helora_serve.refusals import refusal_of
from helora_serve.split.frames import (
    FromSplitClient,
    SplitOpen,
    SplitResume,
    SplitWelcome,
    decode_from_client,
    encode,
)
from helora_serve.split.session import SplitSession, require_forward
from helora_serve.split.sessions import SplitSessions


class SplitSocket:
    """One socket, once it is accepted.

    Args:
        channel: What carries its frames.
        sessions: All sessions.
        identity: Who is at the other end.
    """

    def __init__(self, channel: Channel, sessions: SplitSessions, identity: Identity) -> None:
        self._channel, self._sessions, self._identity = channel, sessions, identity
        self._dropped: asyncio.Future[tuple[Exception, bool]] = asyncio.get_running_loop().create_future()

    def drop(self, error: Exception, *, resumable: bool) -> None:
        """End the socket, and say why."""
        if not self._dropped.done():
            self._dropped.set_result((error, resumable))

    async def run(self) -> None:
        """Until it ends."""
        try:
            session = await self._first()
        except Gone:
            return
        except Exception as error:
            await self._say_goodbye(error, resumable=False)
            return
        answering = asyncio.create_task(self._answer(session))
        try:
            await asyncio.wait(
                (answering, self._dropped), return_when=asyncio.FIRST_COMPLETED, timeout=self._channel.seconds
            )
            if self._dropped.done():
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
                why, resumable = self._dropped.result()
                await self._say_goodbye(why, resumable=resumable)
            elif answering.done() and isinstance(ended := answering.exception(), HeloraError):
                await self._say_goodbye(ended, resumable=True)
        finally:
            self._leave(session)
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _first(self) -> SplitSession:
        """Attach to the session that the first frame names, and welcome the client."""
        try:
            header, _ = await asyncio.wait_for(self._frame(), self._sessions.limits.hello_s)
        except (asyncio.TimeoutError, Ended):
            raise InvalidInput(
                "Server: the socket did not say in time which session it is for.",
                hint="Send open or resume first.",
            ) from None
        token = b""
        if isinstance(header, SplitOpen):
            session = self._sessions.open(self._identity, header)
            token, session.first_token = session.first_token, b""
        elif isinstance(header, SplitResume):
            session = self._sessions.resume(self._identity, header.session, header.token)
        else:
            raise UnexpectedMessage("Server: the first frame is neither open nor resume.", hint="Send one of them.")
        if session.socket is not None:
            session.socket.drop(_elsewhere(), resumable=True)
        session.socket, session.touched = self, self._sessions.clock()
        welcome = SplitWelcome(
            session=session.name,
            token=token,
            requested=session.requested,
            position=session.position,
            most_tokens=self._sessions.most_tokens,
            most_positions=self._sessions.most_positions,
            hidden=self._sessions.layers.base.hidden,
            ttl_s=self._sessions.limits.ttl_s,
            mode=SPLIT,
            sees=SPLIT_WARNING,
        )
        try:
            await self._send(encode(welcome))
        except BaseException:
            self._leave(session)  # whoever waited for the welcome is gone
            raise
        return session

    def _leave(self, session: SplitSession) -> None:
        if session.socket is self:
            session.socket = None

    async def _answer(self, session: SplitSession) -> None:
        while True:
            try:
                header, payload = await self._frame()
            except Ended:
                await self._channel.close()
                return
            session.touched = self._sessions.clock()
            if isinstance(header, Close):
                self._sessions.end(session, "closed by the client")
                await self._channel.close()
                return
            session.sending += 1
            try:
                await self._send(await session.answer(require_forward(header), payload))
            finally:
                session.sending -= 1

    async def _frame(self) -> tuple[FromSplitClient, memoryview]:
        return decode_from_client(await self._channel.receive())

    async def _send(self, frame: bytes) -> None:
        await asyncio.wait_for(self._channel.send(frame), self._sessions.limits.stall_s)

    async def _say_goodbye(self, error: Exception, resumable: bool) -> None:
        told = refusal_of(error)
        self._sessions.metrics.refusals.labels(told.code).inc()
        goodbye = Goodbye(
            code=told.code, message=told.message, hint=told.hint, retry_s=told.retry_s, resumable=resumable
        )
        with suppress(Exception):  # the client may be gone, or take nothing
            await self._send(encode(goodbye))
            await asyncio.wait_for(
                self._channel.close(CODES.get(told.code, POLICY), told.code), self._sessions.limits.stall_s
            )


def _elsewhere() -> UnexpectedMessage:
    return UnexpectedMessage("Server: the session goes on at another socket.", hint="Use that one.")
