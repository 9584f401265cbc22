"""Runs the proxy: listens on loopback, and at Ctrl-C lets the answer that is on its way come to its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from helora_core.errors import InvalidInput
from helora_serve.proxy.answering import Answering

LOOPBACK = "127.0.0.1"
DEFAULT_DRAIN_S = 30.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CONNECTIONS = 256
_MARGIN_S = 5


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: ``LOOPBACK``, or an address that was called insecure by name.
        port: 0 lets the system choose.

    Raises:
        InvalidInput: The port is in use, or the address is not this machine's.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InvalidInput(
            f"Proxy: {host}:{port} cannot be listened at ({error.strerror or error}).",
            hint="Choose another port: --port 8081, or 0 for any.",
        ) from error


class Server(uvicorn.Server):
    """uvicorn's, that drains: nothing new is answered, what waits is sent away, and what is on its way ends in time.

    Args:
        app: The application.
        answering: What answers in it.
        drain_s: Seconds after which an answer on its way is cancelled.
    """

    def __init__(self, app: ASGIApp, answering: Answering, *, drain_s: float = DEFAULT_DRAIN_S) -> None:
        config = uvicorn.Config(
            app, log_config=None, log_level="critical", access_log=False, server_header=False, lifespan="off",
            ws="none", limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=int(drain_s) + _MARGIN_S,
        )  # fmt: skip
        super().__init__(config)
        self._answering, self._drain_s = answering, drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As said."""
        self._answering.drain()
        cancelling = asyncio.get_running_loop().call_later(self._drain_s, self._answering.stop)
        try:
            await super().shutdown(sockets)
        finally:
            cancelling.cancel()
            self._answering.stop()


@contextmanager
def heeding_signals() -> Iterator[None]:
    """While this is open, Ctrl-C and SIGTERM, which uvicorn raises again once it has drained, end nothing."""
    before = {each: signal.signal(each, lambda number, frame: None) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
