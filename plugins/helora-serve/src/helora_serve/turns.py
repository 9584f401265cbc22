"""Rounds of an event loop that stay short: what answers in the loop waits for the next round once this one took long.

A loop looks at its clock and at its sockets between two rounds, and a round runs everything that was ready when it
began. Answers that take a third of a millisecond are no burden; those of 32 clients in one round are.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

ROUND_S = 0.004
"""Seconds of a round after which no further answer is begun in it."""


class Turns:
    """The rounds of one event loop.

    Args:
        most_s: Seconds of a round, from its first answer, after which no other is begun.
        clock: Seconds, monotonic.
    """

    def __init__(self, most_s: float = ROUND_S, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._most_s, self._clock = most_s, clock
        self._since: float | None = None
        self._waiting: deque[object] = deque()

    async def mine(self) -> None:
        """Wait for a round that has time for an answer; in the order in which they came."""
        if not self._waiting and self._has_time():
            return
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket or not self._has_time():
                await asyncio.sleep(0)
        finally:
            self._waiting.remove(ticket)

    def _has_time(self) -> bool:
        now = self._clock()
        if self._since is None:
            self._since = now
            asyncio.get_running_loop().call_soon(self._over)  # in the next round, before all who wait now
        return now - self._since < self._most_s

    def _over(self) -> None:
        self._since = None
