"""One WebSocket to a server: frames in and out over a blocking socket. When it breaks it is gone."""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from helora_core.errors import CorruptPayload, HeloraError, VersionMismatch
from helora_core.parties.messages import MOST_MESSAGE_BYTES
from helora_serve.client.target import Target
from helora_serve.frames import FRAME_OVERHEAD, PATH, SUBPROTOCOL
from helora_serve.refusals import raised, read_refusal

_PIECE = 256 << 10
"""Bytes that are sent as one fragment, so that the server reads a long message as it comes."""

_SILENT = logging.Logger("websockets", logging.CRITICAL)
"""Nobody listens: the library would log headers with tokens, and beginnings of frames."""

_DATA = (Opcode.BINARY, Opcode.TEXT, Opcode.CONT)


class WireBroken(Exception):
    """The socket has ended, in words."""


class HandshakeRefused(CorruptPayload):
    """What answers takes no WebSocket there, and is no server of helora: something on the way, perhaps."""


class Carrier(Protocol):
    """Carries frames to a server and back."""

    def send(self, frame: bytes) -> None:
        """Send a frame. Raises ``WireBroken`` if it cannot be."""
        ...

    def receive(self, seconds: float) -> bytes | None:
        """The next frame; None if none has come in time. Raises ``WireBroken`` when there are no more."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Wire:
    """A WebSocket, connected: a ``Carrier``.

    Args:
        target: Where.
        context: How TLS is spoken.
        headers: Further headers of the handshake.
        timeout: Seconds for the handshake, and for a piece of a message to be taken.
        path, subprotocol: What is spoken, and where.

    Raises:
        WireBroken: Nobody answers, or not in time.
        HandshakeRefused: What answers takes no WebSocket.
        HeloraError: As the server refused it; ``VersionMismatch`` if it speaks another protocol.
    """

    def __init__(
        self,
        target: Target,
        context: ssl.SSLContext | None,
        headers: Mapping[str, str],
        timeout: float,
        *,
        path: str = PATH,
        subprotocol: str = SUBPROTOCOL,
    ) -> None:
        self._subprotocol = subprotocol
        self._protocol = ClientProtocol(
            parse_uri(target.websocket(path)),
            subprotocols=[Subprotocol(subprotocol)],
            max_size=MOST_MESSAGE_BYTES + FRAME_OVERHEAD,
            logger=_SILENT,
        )
        self._state, self._sending = threading.Lock(), threading.Lock()
        self._frames: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        try:
            self._socket = _connected(target, context, timeout)
        except OSError as error:
            raise WireBroken(getattr(error, "verify_message", "") or error.strerror or str(error)) from error
        self._readable = selectors.DefaultSelector()
        self._readable.register(self._socket, selectors.EVENT_READ)
        try:
            self._shake_hands(headers, timeout)
        except BaseException:
            self.close()
            raise

    def send(self, frame: bytes) -> None:
        """Send a frame; from any thread.

        Raises:
            WireBroken: The socket has ended.
        """
        if len(frame) <= _PIECE:
            with self._sending, self._state:
                self._put(frame, first=True, last=True)
            return
        with self._sending, memoryview(frame) as view:
            for start in range(0, len(view), _PIECE):
                piece, last = view[start : start + _PIECE], start + _PIECE >= len(view)
                with self._state:
                    self._put(piece, first=not start, last=last)

    def _put(self, piece: bytes | memoryview, *, first: bool, last: bool) -> None:
        try:
            if first:
                self._protocol.send_binary(piece, fin=last)
            else:
                self._protocol.send_continuation(piece, fin=last)
            self._flush()
        except (OSError, WebSocketException) as error:
            raise WireBroken(_reason(error)) from error

    def receive(self, seconds: float) -> bytes | None:
        """The next frame; None if none has come in time. One thread at a time.

        Raises:
            WireBroken: The socket has ended.
        """
        deadline = time.monotonic() + seconds
        while not self._frames:
            left = deadline - time.monotonic()
            if left <= 0 or not self._wait(left):
                return None
            with self._state:
                self._take_in()
        return self._frames.popleft()

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError, KeyError, ValueError):
            self._readable.close()
        self._socket.close()

    def _wait(self, seconds: float) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        try:
            return bool(self._readable.select(seconds))
        except (OSError, ValueError) as error:
            raise WireBroken("it was closed here") from error

    def _take_in(self) -> None:
        try:
            data = self._socket.recv(_PIECE)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            self._flush()
        except (OSError, WebSocketException) as error:
            raise WireBroken(_reason(error)) from error
        if not data or (self._protocol.close_rcvd is not None and not self._frames):
            closed = self._protocol.close_rcvd
            raise WireBroken(
                f"the server closed it ({closed.code} {closed.reason})" if closed else "the server hung up"
            )

    def _take(self, event: Frame) -> None:
        if event.opcode not in _DATA:
            return
        self._pieces.append(bytes(event.data))
        if event.fin:
            self._frames.append(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
            self._pieces = []

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)

    def _shake_hands(self, headers: Mapping[str, str], timeout: float) -> None:
        request = self._protocol.connect()
        request.headers.update(headers)
        self._protocol.send_request(request)
        deadline = time.monotonic() + timeout
        response: Response | None = None
        try:
            self._flush()
            while response is None:
                if not self._wait(max(0.0, deadline - time.monotonic())):
                    raise WireBroken("the server did not answer in time")
                data = self._socket.recv(_PIECE)
                if data:
                    self._protocol.receive_data(data)
                else:
                    self._protocol.receive_eof()
                for event in self._protocol.events_received():
                    if isinstance(event, Response):
                        response = event
                    elif isinstance(event, Frame):
                        self._take(event)
                if not data and response is None:
                    raise WireBroken("the server hung up")
        except (OSError, WebSocketException) as error:
            raise WireBroken(_reason(error)) from error
        if self._protocol.handshake_exc is not None:
            raise _refused(self._protocol.handshake_exc, response)
        if self._protocol.subprotocol != self._subprotocol:
            raise VersionMismatch(
                f"The server does not speak {self._subprotocol}.", hint="Use the same version of helora on both sides."
            )


def _connected(target: Target, context: ssl.SSLContext | None, timeout: float) -> socket.socket:
    connected = socket.create_connection((target.host, target.port), timeout)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected if context is None else context.wrap_socket(connected, server_hostname=target.host)
    except BaseException:
        connected.close()
        raise


def _refused(error: Exception, response: Response) -> HeloraError | WireBroken:
    if isinstance(error, InvalidStatus) and response.body:
        try:
            return raised(read_refusal(bytes(response.body)))
        except CorruptPayload:
            pass
    if isinstance(error, WebSocketException):
        return HandshakeRefused(
            "What answers is no server of helora: it takes no WebSocket there.", hint="Check the address."
        )
    return WireBroken(_reason(error))


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
