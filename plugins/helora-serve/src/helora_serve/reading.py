"""How WebSockets are read. uvicorn stops reading after each message, until the application has taken it.

For messages of a few kilobytes, one at a time, the two system calls and what asyncio does around them are a tenth of a
round trip on one machine.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

SHORT_BYTES, MOST_SHORT = 64 << 10, 8
"""Messages that may wait for the application while more is read."""

_PIECE_BYTES = 4 << 10
"""Fragments shorter than this are put together as they come: millions of them would take many times their bytes."""


class EagerProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that goes on reading while few and short messages wait."""

    def send_receive_event_to_app(self) -> None:
        """A message is complete."""
        short = self.queue.qsize() < MOST_SHORT and sum(map(len, self.frames)) <= SHORT_BYTES
        if self.read_paused or not short:
            super().send_receive_event_to_app()
            return
        self.read_paused = True  # what is paused already is not paused
        super().send_receive_event_to_app()
        self.read_paused = False

    def handle_ping(self) -> None:
        """A pong, unless the peer takes nothing: RFC 6455 (5.5.3) lets the last of several pings be answered alone."""
        pong = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(pong))

    def handle_cont(self, event: Frame) -> None:
        """A fragment of a message."""
        last = self.frames[-1]
        if len(event.data) >= _PIECE_BYTES or len(last) >= SHORT_BYTES:
            super().handle_cont(event)
            return
        if isinstance(last, bytearray):
            last += event.data
        else:
            pieces: list[Any] = self.frames  # which are joined, of whatever kind
            pieces[-1] = bytearray(last) + event.data
        if event.fin:
            self.send_receive_event_to_app()
