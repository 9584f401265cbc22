"""From requests, which come at any time, to a model, which answers one at a time in a thread."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

from helora_serve.proxy.asked import Asked, Ended, Models, Told
from helora_serve.proxy.failures import SERVER_ERROR, TOO_MANY, Failure, bad_request
from helora_serve.proxy.turns import Closed, Full, Turns

DEFAULT_WAITING = 8
_FIRST_GUESS_S = 10.0


class Answering:
    """Answers in the order in which they are asked for, one at a time.

    Args:
        models: What is asked.
        waiting: The most requests that wait while another one is answered.
    """

    def __init__(self, models: Models, *, waiting: int = DEFAULT_WAITING) -> None:
        self.models = models
        self._turns = Turns(waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="helora-proxy")
        self._cancels: set[Event] = set()
        self._takes_s = _FIRST_GUESS_S
        self._stopped = False

    async def answer(self, asked: Asked) -> AsyncGenerator[Told | Ended, None]:
        """An answer: that it has begun, pieces of text, and how it ended. Closing it early cancels it.

        Raises:
            Failure: There is no such model; too many wait; or the proxy is shutting down.
            Exception: As the model raises it.
        """
        if asked.model not in self.models.names:
            raise _no_such_model(asked.model, self.models)
        await self._turn()
        events: asyncio.Queue[Told | None] = asyncio.Queue()
        loop, cancel, began = asyncio.get_running_loop(), Event(), time.monotonic()

        def tell(event: Told) -> None:
            with suppress(RuntimeError):  # the loop is gone: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        def over(done: asyncio.Future[Ended]) -> None:
            self._cancels.discard(cancel)
            self._takes_s = 0.7 * self._takes_s + 0.3 * (time.monotonic() - began)
            self._turns.release()
            done.exception()  # it is noted, should nobody wait for the result
            events.put_nowait(None)

        self._cancels.add(cancel)
        running = loop.run_in_executor(self._thread, self.models.answer, asked, tell, cancel)
        running.add_done_callback(over)  # not when the reader ends: the model is busy until then
        try:
            while (event := await events.get()) is not None:
                yield event
            ended = running.result()
            if ended.reason == "cancelled" and self._stopped:
                raise _shutting_down()
            yield ended
        finally:
            cancel.set()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._turns.waiting

    @property
    def busy(self) -> bool:
        """Whether something is being answered."""
        return bool(self._cancels)

    def drain(self) -> None:
        """Send away what waits and what comes; what is being answered goes on."""
        self._turns.close()

    def stop(self) -> None:
        """Cancel what is being answered."""
        self._stopped = True
        self.drain()
        for cancel in list(self._cancels):
            cancel.set()

    def close(self) -> None:
        """Wait until the model is free, at most for one token after ``stop``."""
        self._thread.shutdown(wait=True)

    async def _turn(self) -> None:
        try:
            await self._turns.take()
        except Full:
            seconds = max(1, math.ceil(self._takes_s * self._turns.waiting))
            raise Failure(
                429, f"{self._turns.waiting} requests wait already. Try again later.", TOO_MANY, "queue-full",
                headers={"retry-after": str(seconds)},
            ) from None  # fmt: skip
        except Closed:
            raise _shutting_down() from None


def _no_such_model(name: str, models: Models) -> Failure:
    shown = "".join(each if each.isprintable() else "?" for each in name[:64])
    failure = bad_request(
        f"There is no model `{shown}` here; there is {', '.join(models.names)}.", param="model", code="model_not_found"
    )
    failure.status = 404
    return failure


def _shutting_down() -> Failure:
    return Failure(503, "The proxy is shutting down.", SERVER_ERROR, "shutting-down")
