"""How WebSockets are read. uvicorn stops reading after each message, until the application has taken it.

For messages of a few kilobytes, one at a time, the two system calls and what asyncio does around them are a tenth of a
round trip on one machine.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SHORT_BYTES, MOST_SHORT = 64 << 10, 8
"""Messages that may wait for the application while more is read."""


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
