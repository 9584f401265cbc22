"""What a client may have in flight, as the server's welcome says."""

from __future__ import annotations

import threading


class Credit:
    """Counts requests in flight and their bytes; threads wait for their turn.

    Attributes:
        requests, size: How many may be in flight, and their bytes together, unless there is only one.
    """

    def __init__(self) -> None:
        self.requests = self.size = 1
        self._changed = threading.Condition()
        self._in_flight = self._bytes = 0
        self._open = True

    def allow(self, requests: int, size: int) -> None:
        """The server allows so much from now on."""
        with self._changed:
            self.requests, self.size = requests, size
            self._changed.notify_all()

    def take(self, size: int, seconds: float) -> bool:
        """Wait until a request may be sent; it counts then, until it is given back. Returns False if it did not come to
        that in time. After ``end`` nobody waits any more.
        """
        with self._changed:
            if not self._may(size) and not self._changed.wait_for(lambda: self._may(size), seconds):
                return False
            self._in_flight += 1
            self._bytes += size
            return True

    def give_back(self, size: int) -> None:
        """A request is over."""
        with self._changed:
            self._in_flight -= 1
            self._bytes -= size
            self._changed.notify_all()

    def end(self) -> None:
        """Let all go that wait: nothing will be sent."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _may(self, size: int) -> bool:
        few = self._in_flight < self.requests
        return not self._open or (few and (not self._in_flight or self._bytes + size <= self.size))
