"""How long a server that cannot be reached is waited for. Sans-IO.

One that is silent, or does not let us in now, may be busy, or behind a network that is down: it is waited for long.
Where connections are refused the machine is there and nobody listens: the server was stopped or killed, and is back
within the time of a restart, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from helora_core.errors import HeloraError

DEFAULT_RESTART_S = 10.0
"""Seconds in which a server that was stopped or killed may be started again."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class Patience:
    """With one server, from now on until it is reached.

    Args:
        timeout: Seconds that it may not be reached at all.
        restart: Seconds on end that connections may be refused.
        clock: Seconds, monotonic.
    """

    def __init__(self, timeout: float, restart: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout, self._restart, self._clock = timeout, min(restart, timeout), clock
        self._began = clock()
        self._refused_since: float | None = None
        self._pause, self._reason = _FIRST_PAUSE_S, "nobody answers"

    @property
    def left(self) -> float:
        """Seconds until it is over; 0 if it is."""
        now = self._clock()
        left = self._began + self._timeout - now
        if self._refused_since is not None:
            left = min(left, self._refused_since + self._restart - now)
        return max(0.0, left)

    @property
    def reason(self) -> str:
        """Why it is over, in words."""
        if self._refused_since is not None and self._clock() < self._began + self._timeout:
            return f"for {self._restart:g} seconds nobody listens there"
        return f"for {self._timeout:g} seconds {self._reason}"

    def failed(self, error: BaseException) -> float:
        """It was tried in vain. Returns how many seconds to wait until the next time.

        Args:
            error: What came of it; its cause is that of the system, if any.
        """
        self._reason = error.message if isinstance(error, HeloraError) else str(error)
        refused = isinstance(error.__cause__, ConnectionRefusedError)
        if not refused:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = self._clock()
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_S)
        return min(pause, self.left)
