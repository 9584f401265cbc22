"""Fills a client's pools in the background, whenever they run low."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import cast

from helora_core.errors import HeloraError, InvalidInput, PoolEmpty
from helora_core.parties.client import Client
from helora_core.parties.result import Link

_INTERVAL_S = 0.2


class Refill:
    """A thread that prepares correlations while others are used. Use it as a context manager, or call ``stop``.

    A pool of fewer correlations than the client's low-water mark is filled to ``correlations`` again. The thread has a
    link of its own, since a message of a preparation takes the server tenths of a second: for a ``Session``, open a
    second one with the same ``client.evaluation_keys()``.

    Args:
        client: The client; requests may go on in another thread.
        link: Carries messages to the server.
        modules: As for ``Client.prepare``; or several of such, each with a pool of its own.
        correlations: What each pool is filled to.

    Raises:
        InvalidInput: The client has no low-water mark, or the pool is never filled above it; or no module is such.
    """

    def __init__(
        self, client: Client, link: Link, modules: str | Sequence[str] | Sequence[Sequence[str]], correlations: int
    ) -> None:
        if not 0 < client.low_water < correlations:
            raise InvalidInput(
                f"Refill: a pool is filled to {correlations} when it has fewer than {client.low_water}.",
                hint="Make the client with low_water=…, above zero and below what the pool is filled to.",
            )
        one = isinstance(modules, str) or all(isinstance(each, str) for each in modules)
        self._pools = cast("Sequence[str | Sequence[str]]", [modules] if one else modules)
        client.left(self._pools[0])  # opens the pools before there are two threads that could
        self._client, self._link, self._correlations = client, link, correlations
        self._stopped = threading.Event()
        self._asked = 0
        self._error: HeloraError | None = None
        self._thread = threading.Thread(target=self._run, name="helora-refill", daemon=True)
        self._thread.start()

    def __enter__(self) -> Refill:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def error(self) -> HeloraError | None:
        """What ended the thread, if anything did."""
        return self._error

    def ask(self, correlations: int) -> None:
        """Fill pools that have fewer than so many too, for a request that waits for them.

        Raises:
            PoolEmpty: Pools are never filled to so many.
            HeloraError: The thread has ended, by this.
        """
        if self._error is not None:
            raise self._error
        if correlations > self._correlations:
            raise PoolEmpty(
                f"Refill: {correlations} correlations are asked for, and pools are filled to {self._correlations}.",
                hint="Prepare more, or ask for fewer tokens at once.",
            )
        self._asked = max(self._asked, correlations)

    def stop(self) -> None:
        """End the thread after its current message; what it was preparing is dropped."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                lowest = min(self._pools, key=self._client.left)
                left = self._client.left(lowest)
                if left < max(self._client.low_water, self._asked):
                    self._fill(lowest, self._correlations - left)
                else:
                    self._asked = 0
                    self._stopped.wait(_INTERVAL_S)
        except HeloraError as error:
            self._error = error

    def _fill(self, modules: str | Sequence[str], correlations: int) -> None:
        preparation = self._client.prepare(modules, correlations)
        while not (preparation.done or self._stopped.is_set()):
            preparation.receive(self._link.answer(preparation.message()))
