"""What stands for a socket over HTTP: each POST takes the session up, carries requests, and waits for their answers."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress

from helora_core.errors import CorruptPayload
from helora_core.parties.messages import MOST_MESSAGE_BYTES
from helora_serve.client.http import Http
from helora_serve.client.resuming import Resuming
from helora_serve.client.wire import WireBroken
from helora_serve.frames import BODY_LENGTH, FRAME_OVERHEAD, MEDIA_TYPE
from helora_serve.refusals import MOST_REFUSAL_BYTES, raised, read_refusal

_IDLE_S = 2.0
"""Seconds after which a connection is not used again: the server may be about to close it."""

_LEAST_S = 0.02
"""Seconds from a POST that brought nothing to the next one."""

_GOODBYE_S = 5.0


class PostWire:
    """A ``Carrier`` over HTTP.

    What is sent waits until something is to be received; then it is posted, all at once. A response ends when all is
    answered, or after some seconds: then another POST goes on waiting.

    Args:
        server: How it is reached.
        path: Where frames are posted.
        resuming: How the session is taken up again.
    """

    def __init__(self, server: Http, path: str, resuming: Resuming) -> None:
        self._server, self._path, self._resuming = server, server.path(path), resuming
        self._lock, self._queue = threading.Lock(), list[bytes]()
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._used = 0.0
        self._closed = False

    def send(self, frame: bytes) -> None:
        """As said; a frame that ends the session is posted at once."""
        if self._closed:
            raise WireBroken("it was closed here")
        if self._resuming.ends(frame):
            with (
                suppress(OSError, http.client.HTTPException),
                closing(self._server.connection(_GOODBYE_S)) as connection,
            ):
                self._request(connection, [frame])
                connection.getresponse().read(MOST_REFUSAL_BYTES)  # to its end: the session is over then
            return
        with self._lock:
            self._queue.append(frame)

    def receive(self, seconds: float) -> bytes | None:
        """As said. One thread at a time.

        Raises:
            WireBroken: The connection has ended, or the server refuses the POST.
            HeloraError: As the server refuses the session's first frame.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                frame = self._next(left)
                if frame is not None and self._resuming.came(frame):
                    return frame
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise WireBroken(_reason(error)) from error
        return None

    def close(self) -> None:
        """As said; from any thread."""
        self._closed = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._connection is not None:
            self._connection.close()

    def _next(self, seconds: float) -> bytes | None:
        """The next frame of the response; of another one if that has ended, which may have none."""
        began = time.monotonic()
        new = self._response is None
        response = self._response or self._posted(seconds)
        assert self._socket is not None
        self._socket.settimeout(seconds)
        head = response.read(BODY_LENGTH.size)
        if not head:
            self._response, self._used = None, time.monotonic()
            if new:
                time.sleep(max(0.0, min(seconds, _LEAST_S - (time.monotonic() - began))))
            return None
        length = BODY_LENGTH.unpack(head)[0] if len(head) == BODY_LENGTH.size else 0
        if not 0 < length <= MOST_MESSAGE_BYTES + FRAME_OVERHEAD:
            raise WireBroken("what came is no frame")
        frame = response.read(length)
        if len(frame) != length:
            raise WireBroken("the response ended within a frame")
        return frame

    def _posted(self, seconds: float) -> http.client.HTTPResponse:
        with self._lock:
            frames, self._queue = self._queue, []
        if self._closed:
            raise WireBroken("it was closed here")
        if self._connection is None or time.monotonic() - self._used > _IDLE_S or self._connection.sock is None:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._server.connection(seconds)
            self._connection.connect()
            self._socket = self._connection.sock
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request(self._connection, frames)
        response = self._connection.getresponse()
        if response.status != 200:
            raise self._refused(response)
        self._response = response
        return response

    def _request(self, connection: http.client.HTTPConnection, frames: Sequence[bytes]) -> None:
        body = b"".join(BODY_LENGTH.pack(len(each)) + each for each in self._resuming.posting(frames))
        with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before all is sent
            connection.request("POST", self._path, body, {**self._server.headers, "content-type": MEDIA_TYPE})

    def _refused(self, response: http.client.HTTPResponse) -> Exception:
        body = response.read(MOST_REFUSAL_BYTES)
        try:
            error = raised(read_refusal(body))
        except CorruptPayload as wrong:
            return wrong if self._resuming.own and response.status < 500 else WireBroken(f"status {response.status}")
        return error if self._resuming.own else WireBroken(error.message)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
