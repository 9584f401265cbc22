"""Where frames come from and go to: a WebSocket, or a POST, which is a socket that lasts as long as its answer.

The body of a POST is frames, each behind its length (u32, big-endian); so is the response, which is sent as it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from helora_core.errors import CorruptPayload, InvalidInput, LimitExceeded
from helora_serve.frames import BODY_LENGTH, MEDIA_TYPE
from helora_serve.refusals import Refusing

NORMAL, GOING_AWAY, POLICY, TRY_LATER = 1000, 1001, 1008, 1013
"""Codes that a WebSocket is closed with; the goodbye before says why."""

CODES = {"connection-lost": GOING_AWAY, "limit-exceeded": TRY_LATER}
"""The same by the codes of errors; ``POLICY`` for all others."""


class Gone(Exception):
    """The other end is not there any more."""


class Ended(Exception):
    """The other end has sent all its frames, and still takes answers."""


class Channel(Protocol):
    """Frames in both directions.

    Attributes:
        seconds: How long it lasts at most; None for any time.
    """

    seconds: float | None

    async def receive(self) -> bytes:
        """The next frame.

        Raises:
            Gone, Ended: There is none.
            CorruptPayload: It is no frame.
        """
        ...

    async def gone(self) -> None:
        """Wait until the other end is gone, after ``Ended``."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send a frame; waits while the other end takes nothing."""
        ...

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End it."""
        ...


class WebSocketChannel:
    """A WebSocket that is accepted.

    Args:
        socket: The socket.
        subprotocol: What is spoken, for messages.
    """

    seconds: float | None = None

    def __init__(self, socket: WebSocket, subprotocol: str) -> None:
        self._socket, self._subprotocol = socket, subprotocol

    async def receive(self) -> bytes:
        """As said."""
        message = await self._socket.receive()
        if message["type"] != "websocket.receive":
            raise Gone
        data = message.get("bytes")
        if data is None:
            raise CorruptPayload("The frame is text.", hint=f"{self._subprotocol} has binary messages only.")
        return bytes(data)

    async def gone(self) -> None:
        """As said."""
        while True:
            await self.receive()

    async def send(self, frame: bytes) -> None:
        """As said."""
        try:
            await self._socket.send_bytes(frame)
        except WebSocketDisconnect:
            raise Gone from None

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """As said."""
        await self._socket.close(code, reason)


class PostChannel:
    """A POST.

    Args:
        receive, send: As ASGI has them.
        most: Most bytes of a frame.
        stall_s: Seconds that the body may stand still.
        seconds: Seconds until the response ends, whether all is answered or not.
    """

    def __init__(self, receive: Receive, send: Send, *, most: int, stall_s: float, seconds: float) -> None:
        self.seconds: float | None = seconds
        self._receive, self._send, self._most, self._stall_s = receive, send, most, stall_s
        self._buffer, self._more = bytearray(), True
        self._begun = self._over = False

    async def receive(self) -> bytes:
        """As said."""
        while (frame := self._frame()) is None:
            if not self._more:
                if self._buffer:
                    raise CorruptPayload("The body ends within a frame.", hint="Put its length before each frame.")
                raise Ended
            try:
                message = await asyncio.wait_for(self._receive(), self._stall_s)
            except asyncio.TimeoutError:
                raise CorruptPayload("The body stands still.", hint="Send it at once.") from None
            if message["type"] != "http.request":
                raise Gone
            self._buffer += message.get("body", b"")
            self._more = message.get("more_body", False)
        return frame

    async def gone(self) -> None:
        """As said."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise Gone

    async def send(self, frame: bytes) -> None:
        """As said."""
        await self._begin()
        await self._send(
            {"type": "http.response.body", "body": BODY_LENGTH.pack(len(frame)) + frame, "more_body": True}
        )

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """As said."""
        if not self._over:
            self._over = True
            await self._begin()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _frame(self) -> bytes | None:
        if len(self._buffer) < BODY_LENGTH.size:
            return None
        end = BODY_LENGTH.size + BODY_LENGTH.unpack_from(self._buffer)[0]
        if end > BODY_LENGTH.size + self._most:
            raise CorruptPayload("The frame is longer than the server reads.", hint="Send less at a time.")
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[BODY_LENGTH.size : end])
        del self._buffer[:end]
        return frame

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            headers = [(b"content-type", MEDIA_TYPE.encode()), (b"x-accel-buffering", b"no")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})


class Frames(Response):
    """The response to a POST of frames.

    Args:
        run: Answers on a channel, until it ends.
        most, stall_s, seconds: As ``PostChannel`` takes them.
    """

    def __init__(self, run: Callable[[Channel], Awaitable[None]], *, most: int, stall_s: float, seconds: float) -> None:
        super().__init__()
        self._run, self._most, self._stall_s, self._seconds = run, most, stall_s, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run it."""
        channel = PostChannel(receive, send, most=self._most, stall_s=self._stall_s, seconds=self._seconds)
        try:
            await self._run(channel)
        finally:
            await asyncio.wait_for(channel.close(), self._stall_s)


def require_length(length: str, most: int) -> None:
    """Check the length of a body before it is read.

    Args:
        length: The header ``content-length``; empty if there is none.
        most: Bytes that are allowed.

    Raises:
        Refusing: There is none, 411; or it is too long, 413.
    """
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise Refusing(
            InvalidInput("Server: the frames come without their length.", hint="Send Content-Length."), status=411
        )
    if int(length) > most:
        error = LimitExceeded(
            f"Server: a body of {length} bytes; it reads at most {most}.", hint="Send fewer requests at a time."
        )
        raise Refusing(error, status=413)
