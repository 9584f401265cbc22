"""Where requests are computed: in the event loop only what takes no longer than to hand it to a thread.

``Worker`` is what the rest of the server knows of it. A process or a cluster takes the same three calls: a session is
opened where its keys will be, messages go there, and it ends there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from helora_core.parties.server import Server
from helora_core.parties.session import Admit, Session

T = TypeVar("T")


class Opened(Protocol):
    """A session where it is computed.

    Attributes:
        in_flight: Requests and preparations of several messages that are not over.
    """

    @property
    def in_flight(self) -> int: ...


class Worker(Protocol):
    """Computes for sessions. A session takes one call at a time; different ones may be computed at once."""

    async def open(self, server: Server, keys: Callable[[], bytes], admit: Admit) -> Opened:
        """A session. Errors are those of ``keys`` and of ``Server.open``.

        Args:
            server: What answers.
            keys: Reads the evaluation keys.
            admit: As for ``Server.open``.
        """
        ...

    async def submit(self, session: Any, message: bytes) -> bytes:
        """The session's answer to a message. Errors are those of ``Session.answer``."""
        ...

    def at_once(self, session: Any, message: bytes) -> bytes | None:
        """The answer to a message that takes no longer than to hand it over; called in the event loop. None if it is
        to be submitted. Errors are those of ``Session.answer``.
        """
        ...

    async def end(self, session: Any) -> None:
        """Let go of a session and its keys."""
        ...

    def stop(self) -> None:
        """Wait for what is in hand, and end."""
        ...


class Threads:
    """Threads of this process: the engine lets go of Python's lock while it computes.

    Args:
        count: How many; as many as the machine has processors if None.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="helora-worker")

    async def open(self, server: Server, keys: Callable[[], bytes], admit: Admit) -> Session:
        """A session of ``helora_core``."""
        return await self._run(lambda: server.open(keys(), admit=admit))

    async def submit(self, session: Session, message: bytes) -> bytes:
        """Its answer."""
        return await self._run(session.answer, message)

    def at_once(self, session: Session, message: bytes) -> bytes | None:
        """``Session.answer_at_once``: activations under a pad, and no ciphertexts."""
        return session.answer_at_once(message)

    async def end(self, session: Session) -> None:
        """Close it."""
        await self._run(session.close)

    def stop(self) -> None:
        """Wait for what is in hand, and end."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
