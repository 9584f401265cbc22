"""Turns at what one can use at a time, in the order in which they were asked for. For one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Full(Exception):
    """As many wait as may."""


class Closed(Exception):
    """There are no more turns."""


class Turns:
    """One turn at a time.

    Args:
        waiting: The most that may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._most = waiting
        self._taken = self._closed = False
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> bool:
        """Whether somebody has a turn."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    async def take(self) -> None:
        """Wait for a turn. Whoever has it has to ``release`` it; whoever is cancelled while waiting has none.

        Raises:
            Full: As many wait as may.
            Closed: There are no more turns, or none any more.
        """
        if self._closed:
            raise Closed
        if not self._taken:
            self._taken = True
            return
        if len(self._queue) >= self._most:
            raise Full
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._queue.remove(turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # it was given at the same time
                self.release()
            raise

    def release(self) -> None:
        """The turn is over: it is the next one's."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False

    def close(self) -> None:
        """Send away all that wait, and all that come."""
        self._closed = True
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(Closed())
