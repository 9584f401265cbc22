"""The client's end of a link: ``connect`` gives a server's offer, and a session that answers messages.

What is lost stays lost: after the connection has ended, every call raises ``ConnectionLost``, and nothing connects
again by itself. So a generation that misses an answer fails, and does not go on without it.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress

from helora_core.errors import ConnectionLost, CorruptPayload, HeloraError, LimitExceeded
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.parties.messages import MOST_MESSAGE_BYTES
from helora_transformers.link.address import dial, parse
from helora_transformers.link.framing import HELLO, Decoder, Frame, Kind, Welcome, encode
from helora_transformers.link.refusals import MOST_REFUSAL_BYTES, decode_refusal

DEFAULT_TIMEOUT_S = 60.0
PIECE = 256 << 10
_LIMITS = {Kind.WELCOME: 64, Kind.REPLY: MOST_MESSAGE_BYTES, Kind.REFUSAL: MOST_REFUSAL_BYTES}


def connect(address: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> Remote:
    """Connect to a server that ``helora link`` or a ``Host`` serves. ``connect`` of ``helora_transformers`` calls this
    for addresses of a link.

    Args:
        address: ``tcp://host:port`` or ``unix:///path``.
        timeout: Seconds that the server may be silent while something is awaited of it; then it is taken for lost.

    Raises:
        InvalidInput: The address is of another kind.
        ConnectionLost: Nobody answers there, or not in time.
        LimitExceeded: The server has as many connections as it allows.
        CorruptPayload, VersionMismatch: What answers is not a link, or of another version.
    """
    where = parse(address)
    sock = dial(where, timeout)
    try:
        return Remote(sock, str(where), timeout)
    except BaseException:
        sock.close()
        raise


class Remote:
    """A server at the other end of a link; a context manager closes it at its end. Any threads may use it at once.

    Attributes:
        address: The server's.
    """

    def __init__(self, sock: socket.socket, address: str, timeout: float) -> None:
        self.address = address
        self._sock, self._timeout = sock, timeout
        self._decoder = Decoder(_LIMITS)
        self._welcome = self._greet()
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._turn, self._reading = threading.Condition(), False
        self._requests = itertools.count(1)
        self._pending: dict[int, Future[bytes]] = {}
        self._opened, self._others = False, list[Remote]()
        self._lost = ""
        self._heard = time.monotonic()
        self._readable = selectors.DefaultSelector()
        self._readable.register(sock, selectors.EVENT_READ)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def offer(self) -> bytes:
        """The server's offer, for ``Client``.

        Raises:
            ConnectionLost: The connection has ended.
        """
        return self.ask(Kind.OFFER)

    def open(self, evaluation_keys: bytes) -> RemoteSession:
        """A session, which ends with the connection. Each further one has a connection of its own.

        Args:
            evaluation_keys: The result of ``Client.evaluation_keys``.

        Raises:
            ConnectionLost: The connection has ended.
            LimitExceeded: The keys are longer than the server reads, or it has as many sessions or connections as it
                allows.
            HeloraError: As ``Server.open`` raises it.
        """
        with self._lock:
            first, self._opened = not self._opened, True
        if not first:
            other = connect(self.address, timeout=self._timeout)
            self._others.append(other)
            return other.open(evaluation_keys)
        try:
            self.ask(Kind.OPEN, evaluation_keys)
        except HeloraError:
            self._opened = False
            raise
        return RemoteSession(self)

    def close(self) -> None:
        """End the connection, and with it the session; further ones too."""
        for other in self._others:
            other.close()
        self._lose("it was closed here")
        with self._turn:  # whoever reads has noticed by then
            self._turn.wait_for(lambda: not self._reading)
        self._readable.close()
        self._sock.close()

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        """The reply to a request; the methods of the session and this class are made of it."""
        most = {Kind.OPEN: self._welcome.key_bytes, Kind.MESSAGE: self._welcome.message_bytes}.get(kind, 0)
        if len(payload) > most:
            raise LimitExceeded(
                f"Link: {len(payload)} bytes for the server ({kind.name.lower()}), which reads at most {most}.",
                hint="Send fewer tokens per request; keys for this server's offer are never longer.",
            )
        reply: Future[bytes] = Future()
        with self._lock:
            if self._lost:
                raise self._error()
            request = next(self._requests)
            self._pending[request] = reply
        try:
            with self._sending, memoryview(encode(kind, request, payload)) as frame:
                for start in range(0, len(frame), PIECE):
                    self._sock.sendall(frame[start : start + PIECE])
        except OSError as error:
            self._lose(f"it broke while sending ({error.strerror or error})")
        return self._awaited(reply)

    def _awaited(self, reply: Future[bytes]) -> bytes:
        """A reply. One of those that wait reads for all: a thread that hands replies over costs more than loopback."""
        since = time.monotonic()
        while not reply.done():
            left = max(since, self._heard) + self._timeout - time.monotonic()
            if left <= 0:
                self._lose(f"the server was silent for {self._timeout:g} seconds")
                continue
            with self._turn:
                if self._reading:
                    self._turn.wait(left)
                    continue
                self._reading = True
            try:
                self._read(reply, left)
            finally:
                with self._turn:
                    self._reading = False
                    self._turn.notify_all()
        return reply.result()

    def _greet(self) -> Welcome:
        """What the server says first; only then is anything sent, so that no refusal is lost."""
        deadline = time.monotonic() + self._timeout
        try:
            while (frame := self._decoder.next()) is None:
                self._sock.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._sock.recv(PIECE)
                if not data:
                    raise ConnectionLost(f"Link to {self.address}: the server hung up.", hint="Connect again.")
                self._decoder.feed(data)
            if frame.kind is Kind.REFUSAL:
                raise decode_refusal(frame.payload)
            welcome = strict_msgpack.decode(frame.payload, Welcome)
            self._sock.settimeout(self._timeout)
            self._sock.sendall(HELLO)
        except Malformed as error:
            raise CorruptPayload(
                f"Link to {self.address}: the welcome {error.reason}.", hint="Use the same version of helora there."
            ) from error
        except OSError as error:
            raise ConnectionLost(
                f"Link to {self.address}: no welcome came ({error.strerror or error}).",
                hint="Check the address: helora link prints its own when it starts.",
            ) from error
        return welcome

    def _read(self, reply: Future[bytes], seconds: float) -> None:
        """Hand out replies until this one is there, nothing came for so long, or the connection has ended."""
        try:
            while True:
                while (frame := self._decoder.next()) is not None:
                    self._take(frame)
                with self._turn:
                    self._turn.notify_all()
                if reply.done() or not self._readable.select(seconds):
                    return
                data = self._sock.recv(PIECE)
                if not data:
                    raise ConnectionLost("the server hung up", hint="Connect again.")
                self._heard = time.monotonic()
                self._decoder.feed(data)
        except HeloraError as error:
            self._lose(error.message)
        except OSError as error:
            self._lose(f"it broke ({error.strerror or error})")

    def _take(self, frame: Frame) -> None:
        if frame.kind is Kind.WELCOME:
            raise CorruptPayload("the server answers what was not asked", hint="Connect again.")
        refusal = decode_refusal(frame.payload) if frame.kind is Kind.REFUSAL else None
        with self._lock:
            reply = self._pending.pop(frame.request, None)  # from here on nobody else will give it a result
        if reply is None:
            raise refusal or CorruptPayload("the server answers what was not asked", hint="Connect again.")
        if refusal is not None:
            reply.set_exception(refusal)
        else:
            reply.set_result(frame.payload)

    def _lose(self, reason: str) -> None:
        """End the connection for good, and all waiting for it; the first reason stays."""
        with self._lock:
            self._lost = self._lost or reason
            pending, self._pending = self._pending, {}
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        for reply in pending.values():
            reply.set_exception(self._error())

    def _error(self) -> ConnectionLost:
        return ConnectionLost(
            f"Link to {self.address}: the connection has ended: {self._lost.rstrip('.')}.",
            hint="Connect again and open another session; a request without its answer has to be begun anew.",
        )


class RemoteSession:
    """A session at the other end: a ``Link`` of ``helora_core.parties.result``, for any number of threads."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def answer(self, message: bytes) -> bytes:
        """The server's answer to a message. Several may be on their way at once; the server answers them in turn.

        Raises:
            ConnectionLost: The connection has ended, or ended before the answer came.
            LimitExceeded: The message is longer than the server reads. The session goes on.
            HeloraError: As ``Session.answer`` raises it. The session goes on.
        """
        return self._remote.ask(Kind.MESSAGE, message)
