"""Listens: uvicorn, in this thread or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import msgspec
import uvicorn

from helora_core.errors import InvalidInput
from helora_serve.app import app_of
from helora_serve.auth import is_loopback
from helora_serve.certificates import CertifiedProtocol
from helora_serve.frames import FRAME_OVERHEAD
from helora_serve.pages import page_routes
from helora_serve.reading import EagerProtocol
from helora_serve.service import Service

_SWITCH_S = 0.0005


class TLS(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate, as uvicorn takes it.

    Attributes:
        certificate, key: PEM files.
        key_password: Of the key.
        client_ca: PEM file of the authority whose certificates clients have to show; None to ask for none.
    """

    certificate: Path
    key: Path
    key_password: str | None = None
    client_ca: Path | None = None


class _Uvicorn(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Host:
    """A service at an address. ``run`` serves until ``stop``; a context manager does so in a thread of its own.

    Args:
        service: The service; closed with the host.
        host: Name or address to listen at.
        port: The port; 0 for one that the system chooses.
        tls: The certificate; None for none.
        insecure: Listen at an address that other machines reach though clients are not asked for tokens or
            certificates, or there is no TLS.
        pages: A base model for browsers, as ``helora_serve.base`` converts it: the private page is served at ``/``.
        ends: The embedding and the head of one: the split page is served at ``/split``.

    Attributes:
        url: Where it is, for ``connect``.

    Raises:
        InvalidInput: It cannot listen there, or may not.
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: TLS | None = None,
        insecure: bool = False,
        pages: Path | None = None,
        ends: Path | None = None,
    ) -> None:
        self.service, self.tls = service, tls
        self.asks_for = " and ".join(
            name
            for name, asked in (("tokens", service.access.tokens), ("certificates", tls and tls.client_ca))
            if asked
        )
        try:
            self._socket = _listening(host, port)
        except BaseException:
            service.close()
            raise
        address, self.port = self._socket.getsockname()[:2]
        self.exposed = not is_loopback(str(address).partition("%")[0])
        self.insecure = self.exposed and not (tls is not None and self.asks_for)
        if self.insecure and not insecure:
            self._socket.close()
            service.close()
            raise InvalidInput(
                f"Serve: {host} is open to other machines, and "
                + ("anybody is served" if not self.asks_for else "there is no TLS")
                + ".",
                hint="Give --tokens FILE and --tls-certificate FILE --tls-key FILE, or listen at 127.0.0.1; or accept "
                "what docs/serving.md says of it by --insecure.",
            )
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        limits = service.limits
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app_of(
                    service,
                    note=self.warning if self.insecure else "",
                    pages=page_routes(pages, ends) if pages or ends else (),
                ),
                http=CertifiedProtocol,
                ws=EagerProtocol,
                ws_max_size=limits.message_bytes + FRAME_OVERHEAD,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                lifespan="on",
                loop="asyncio",
                log_config=None,
                log_level="warning",  # below, headers with tokens and beginnings of frames are logged
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=None,
                timeout_graceful_shutdown=5,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
                ssl_keyfile_password=tls.key_password if tls else None,
                ssl_ca_certs=tls.client_ca if tls else None,
                ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.client_ca else ssl.CERT_NONE,
            )
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def started(self) -> bool:
        """Whether it listens."""
        return bool(self._uvicorn.started)

    @property
    def warning(self) -> str:
        """What is not secure about it, in few words."""
        missing = [name for name, there in (("no TLS", self.tls), ("no authentication", self.asks_for)) if not there]
        return ", ".join(missing)

    def __enter__(self) -> Host:
        self._thread = threading.Thread(target=lambda: asyncio.run(self.run()), name="helora-serve", daemon=True)
        self._thread.start()
        while not self.started:
            if not self._thread.is_alive():
                raise InvalidInput("Serve: it could not be started.", hint="The log says why.")
            self._thread.join(0.005)
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()

    async def run(self) -> None:
        """Serve until ``stop``: then answers in hand are finished, and all clients are told."""
        self._loop = asyncio.get_running_loop()
        aborting = self._loop.create_task(self._abort_stuck())
        try:
            await self._uvicorn.serve(sockets=[self._socket])
        finally:
            aborting.cancel()
            await asyncio.gather(aborting, return_exceptions=True)
            self.service.close()

    async def _abort_stuck(self) -> None:
        """Abort connections that were closed and whose peers do not take what is left: they would stay forever."""
        since: dict[object, float] = {}
        stall_s = self.service.limits.stall_s
        while True:
            await asyncio.sleep(min(1.0, stall_s))
            now = time.monotonic()
            closing = [
                each.transport
                for each in self._uvicorn.server_state.connections
                if each.transport is not None and each.transport.is_closing()
            ]
            since = {each: since.get(each, now) for each in closing}
            for transport, first in since.items():
                if now - first > stall_s:
                    transport.abort()  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Begin to stop; from any thread."""
        if self._loop is not None and self._loop.is_running():
            with contextlib.suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(self._stop(), self._loop)

    def reload(self) -> bool:
        """``Service.reload``, from another thread than the host's."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self.service.reload(), self._loop).result()

    async def _stop(self) -> None:
        await self.service.drain()  # while sockets still carry what is in hand
        self._uvicorn.should_exit = True


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, name = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(
            family, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )  # named, or asyncio delays small writes
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(name)
            listening.listen(128)
            listening.set_inheritable(False)
        except BaseException:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise InvalidInput(
            f"Serve: {host}:{port} cannot be listened at ({error.strerror or error}).", hint="Choose another."
        ) from error


def settle() -> None:
    """Set this process up for serving, once all is loaded; for a process that does nothing else.

    Threads that compute hold Python's lock for at most half a millisecond where the event loop waits for it, instead of
    five. What is loaded is left out of garbage collections, of which a full one would stop everything meanwhile.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
