"""What stands between a client and a server and lets no WebSocket through: it passes on HTTP, and loses some of it."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import closing, suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PostKind(Enum):
    """What happens to a POST."""

    LOSE_REQUEST = "it never comes"
    CUT_REQUEST = "half of it comes, and the connection ends"
    LOSE_RESPONSE = "its response never comes"
    CUT_RESPONSE = "half of its response comes, and the connection ends"
    REPEAT = "it comes twice, and the second response is passed on"


class PostRelay:
    """Passes requests on to a port of this machine; a context manager.

    Args:
        port: Where to.
        faults: What happens to which POST, by its number from 0; each once.

    Attributes:
        url: Where it listens.
        happened: Numbers of the POSTs that had a fault.
        upgrades: WebSockets that were refused.
        posts: POSTs so far.
        bodies: Their bodies.
    """

    def __init__(self, port: int, faults: dict[int, PostKind] | None = None) -> None:
        self.port, self.faults = port, dict(faults or {})
        self.happened: list[int] = []
        self.upgrades = self.posts = 0
        self.bodies: list[bytes] = []
        self._lock = threading.Lock()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _pass(self) -> None:
                relay.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = _pass  # noqa: N815 - names that the library asks for

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> PostRelay:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Any) -> None:
        """Pass a request on."""
        if "upgrade" in request.headers:
            self.upgrades += 1
            self._respond(request, 403, {"content-type": "text/html"}, b"<h1>Blocked by policy</h1>")
            return
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        kind = None
        if request.command == "POST":
            with self._lock:
                kind = self.faults.pop(self.posts, None)
                if kind is not None:
                    self.happened.append(self.posts)
                self.posts += 1
                self.bodies.append(body)
        request.close_connection = kind is not None
        if kind is PostKind.LOSE_REQUEST:
            return
        if kind is PostKind.CUT_REQUEST:
            self._half(request, body)
            return
        for _ in range(2 if kind is PostKind.REPEAT else 1):
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
                connection.request(request.command, request.path, body, dict(request.headers))
                response = connection.getresponse()
                data = response.read()
        if kind is PostKind.LOSE_RESPONSE:
            return
        headers = {"content-type": response.getheader("content-type", "")}
        self._respond(request, response.status, headers, data, cut=kind is PostKind.CUT_RESPONSE)

    def _half(self, request: Any, body: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as peer:
            lines = [f"POST {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
            peer.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) // 2])

    @staticmethod
    def _respond(request: Any, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
        with suppress(OSError):
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            request.send_header("content-length", str(len(data)))
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(data[: len(data) // 2] if cut else data)
