"""Serves a ``helora_core`` server over a link. Bytes come and go here; what they mean is the server's business.

Each connection has a thread. Its blocking reads and writes hold up no other connection, however slow the peer is, and
there are few connections: each stands for a client with megabytes of keys. The thread computes as well, one message at
a time over all connections: sessions take one call at a time, the server's cache of encoded weights is not made for
several threads, and a backend has its own way of using more cores (``HELORA_THREADS``).
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from helora_core.backend.limits import OVERHEAD_BYTES, MessageLimits
from helora_core.errors import ConnectionLost, HeloraError, LimitExceeded, UnexpectedMessage
from helora_core.parties.server import Server
from helora_core.parties.session import Session
from helora_transformers.link.address import listen, parse
from helora_transformers.link.framing import HELLO, Decoder, Frame, Kind, Welcome, encode
from helora_transformers.link.refusals import TOLD, encode_refusal

DEFAULT_ADDRESS = "tcp://127.0.0.1:7461"
HELLO_S = 10.0
"""Seconds in which a peer has to say hello."""
PIECE = 256 << 10
_POLL_S = 0.2
_LOG = logging.getLogger(__name__)


class Ended(msgspec.Struct, kw_only=True):
    """A connection that is over.

    Attributes:
        number: Its number, from 1.
        opened: Whether it had a session.
        messages: Messages that were answered.
        refused: Requests of all kinds that were refused.
        bytes_up, bytes_down: Bytes that came and went, framing included.
        seconds: How long it lasted.
        why: Why it ended, in words.
    """

    number: int
    opened: bool = False
    messages: int = 0
    refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    why: str = "failed"


class Host:
    """Listens from the start, in threads of its own, until ``stop``. A context manager stops it at its end.

    Args:
        server: What is served. Nothing else may call it meanwhile.
        address: Where; port 0 lets the system choose.
        connections: Connections at once; further ones are refused as ``limit-exceeded``.
        idle_s: Seconds after which a connection ends, if no whole frame has come, or one has not left.
        anywhere: Let it listen at TCP addresses that other machines reach. See docs/link.md first.
        ended: Called with each connection that has ended, in its thread.

    Attributes:
        address: Where it listens, for ``connect``.

    Raises:
        InvalidInput: It cannot or may not listen there.
    """

    def __init__(
        self,
        server: Server,
        address: str = DEFAULT_ADDRESS,
        *,
        connections: int = 16,
        idle_s: float = 900.0,
        anywhere: bool = False,
        ended: Callable[[Ended], object] = lambda ended: None,
    ) -> None:
        self.server, self.idle_s, self.ended = server, idle_s, ended
        self.offer = server.offer()
        sets = server.served.key_sets
        keys = sum(MessageLimits.of(each.params, rotations=len(each.rotation_steps)).key_bytes for each in sets)
        self.welcome = Welcome(keys + len(sets) * OVERHEAD_BYTES, server.limits.message_bytes + OVERHEAD_BYTES)
        self.computing = threading.Lock()
        self.stopping = threading.Event()
        self._most, self._lock, self._open = connections, threading.Lock(), set[_Connection]()
        self._listener, where = listen(parse(address), anywhere=anywhere)
        self.address, self._path = str(where), where.path
        self._listener.settimeout(_POLL_S)
        self._thread = threading.Thread(target=self._accept, name="helora-link", daemon=True)
        self._thread.start()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def stop(self, grace_s: float = 5.0) -> None:
        """Accept and read nothing more, and send the answers that are being computed, if they are ready in time."""
        self.stopping.set()
        self._thread.join()
        self._listener.close()
        if self._path:
            Path(self._path).unlink(missing_ok=True)
        with self._lock:
            connections = list(self._open)
        for each in connections:
            each.wake()
        deadline = time.monotonic() + grace_s
        for each in connections:
            each.thread.join(max(0.0, deadline - time.monotonic()))
        for each in connections:
            each.cut()

    def _accept(self) -> None:
        number = 0
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # out of file descriptors, or the peer is gone already
                self.stopping.wait(_POLL_S)
                continue
            number += 1
            try:
                self._begin(sock, number)
            except (OSError, RuntimeError):  # the peer is gone already, or there are no more threads
                sock.close()

    def _begin(self, sock: socket.socket, number: int) -> None:
        with self._lock:
            if len(self._open) < self._most:
                connection = _Connection(self, sock, number)
                connection.thread.start()
                self._open.add(connection)
                return
        error = LimitExceeded(
            f"Server: {self._most} connections are open, and no more are allowed.",
            hint="Try again later; the server's --connections sets how many.",
        )
        with sock:
            sock.setblocking(False)
            sock.send(HELLO + encode(Kind.REFUSAL, 0, encode_refusal(error)))

    def over(self, connection: _Connection, ended: Ended) -> None:
        """A connection's thread is about to end."""
        with self._lock:
            self._open.discard(connection)
        try:
            self.ended(ended)
        except Exception:
            _LOG.exception("what is told of connections that ended failed")


class _Connection:
    """One client: its socket, its thread, and, once its keys have come, its session, which ends with the connection."""

    def __init__(self, host: Host, sock: socket.socket, number: int) -> None:
        self._host, self._sock, self._tally = host, sock, Ended(number=number)
        most = {Kind.OFFER: 0, Kind.OPEN: host.welcome.key_bytes, Kind.MESSAGE: host.welcome.message_bytes}
        self._decoder = Decoder(most)
        self._session: Session | None = None
        self.thread = threading.Thread(target=self._run, name=f"helora-link-{number}", daemon=True)

    def wake(self) -> None:
        """End its reading."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def cut(self) -> None:
        """End it at once."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        start, tally = time.monotonic(), self._tally
        try:
            if self._sock.family in (socket.AF_INET, socket.AF_INET6):
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(HELLO + encode(Kind.WELCOME, 0, msgspec.msgpack.encode(self._host.welcome)))
            while (frame := self._next()) is not None:
                self._send(self._reply(frame))
            tally.why = "closed by the client"
        except HeloraError as error:
            tally.why = error.message
            with suppress(OSError):
                self._sock.settimeout(1)
                self._sock.sendall(encode(Kind.REFUSAL, 0, encode_refusal(error)))
        except OSError as error:
            tally.why = f"lost ({error.strerror or error})"
        finally:
            self._sock.close()
            if self._session is not None:
                with self._host.computing:
                    self._session.close()
            tally.seconds = time.monotonic() - start
            self._host.over(self, tally)

    def _next(self) -> Frame | None:
        """The next frame; None if the client has closed the stream.

        Raises:
            ConnectionLost: The client took too long, or ended halfway; or the host stops.
            CorruptPayload, VersionMismatch, LimitExceeded: As the decoder raises them.
        """
        since = time.monotonic()
        while (frame := self._decoder.next()) is None or self._host.stopping.is_set():
            if self._host.stopping.is_set():
                raise ConnectionLost("Server: it is stopping.", hint="Connect again once it is back.")
            most = self._host.idle_s if self._decoder.greeted else min(HELLO_S, self._host.idle_s)
            self._sock.settimeout(max(0.001, since + most - time.monotonic()))
            try:
                data = self._sock.recv(PIECE)
            except TimeoutError:
                raise ConnectionLost(
                    f"Server: nothing whole has come for {most:g} seconds.",
                    hint="Connect again, and open another session; the server's --idle sets how long it waits.",
                ) from None
            if not data and not self._host.stopping.is_set():
                self._decoder.end()
                return None
            self._tally.bytes_up += len(data)
            self._decoder.feed(data)
        return frame

    def _send(self, data: bytes) -> None:
        self._sock.settimeout(self._host.idle_s)
        self._sock.sendall(data)
        self._tally.bytes_down += len(data)

    def _reply(self, frame: Frame) -> bytes:
        try:
            with self._host.computing:
                return encode(Kind.REPLY, frame.request, self._answer(frame))
        except Exception as error:
            self._tally.refused += 1
            if not isinstance(error, TOLD):
                _LOG.exception("a request failed")
            return encode(Kind.REFUSAL, frame.request, encode_refusal(error))

    def _answer(self, frame: Frame) -> bytes:
        if frame.kind is Kind.OFFER:
            return self._host.offer
        if frame.kind is Kind.OPEN:
            if self._session is not None:
                raise UnexpectedMessage(
                    "Server: this connection has its session already.", hint="Connect once for each client."
                )
            self._session = self._host.server.open(frame.payload)
            self._tally.opened = True
            return b""
        if self._session is None:
            raise UnexpectedMessage("Server: this connection has no session yet.", hint="Send evaluation keys first.")
        answer = self._session.answer(frame.payload)
        self._tally.messages += 1
        return answer
