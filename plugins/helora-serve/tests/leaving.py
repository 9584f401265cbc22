"""A client that leaves before it is answered: the channel of one, and a socket that it opened."""

from __future__ import annotations

import asyncio
from typing import Any

from helora_serve.auth import Identity
from helora_serve.channel import Gone


class Leaving:
    """The channel of a client that says one thing, and is gone when it is answered."""

    seconds: float | None = None

    def __init__(self, frame: bytes) -> None:
        self._frames = [frame]

    async def receive(self) -> bytes:
        if not self._frames:
            raise Gone
        return self._frames.pop()

    async def gone(self) -> None:
        raise Gone

    async def send(self, frame: bytes) -> None:
        raise Gone

    async def close(self, code: int = 1000, reason: str = "") -> None:
        raise Gone


def left_at(served: Any, socket: Any, frame: bytes, sessions: Any) -> None:
    """Open a session at a kind of socket, and leave before its welcome."""

    async def leave() -> None:
        await socket(Leaving(frame), sessions, Identity("")).run()

    asyncio.run_coroutine_threadsafe(leave(), served.host._loop).result(120)
