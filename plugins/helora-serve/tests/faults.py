"""A relay in front of a server that does to frames of WebSockets what networks, proxies and attackers do.

It reads whole frames of an unencrypted connection, so that a fault hits a frame of one's choice: those of each
direction have numbers from 0 on each connection, which begin once both sides have shaken hands.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

_MOST_HELD_S = 0.2


class Kind(Enum):
    """What happens to a frame."""

    KILL = "the connection ends before it"
    TRUNCATE = "the connection ends in its middle"
    DELAY = "it comes late"
    DUPLICATE = "it comes twice"
    REORDER = "it comes after the next one"
    DROP = "it never comes"


class Fault(NamedTuple):
    """A fault.

    Attributes:
        kind: What happens.
        up: Whether to a frame of the client.
        frame: Its number in that direction.
        connection: Of which connection with frames, from 0.
    """

    kind: Kind
    up: bool
    frame: int
    connection: int = 0


class FaultyRelay:
    """Passes connections on to a port of this machine; a context manager.

    Args:
        port: Where to.
        faults: What happens; each once.
        delay_s: Seconds by which ``DELAY`` is late.
        sockets: Whether WebSockets get through.

    Attributes:
        url: Where it listens.
        recorded: All bytes of the clients, by connection.
        happened: The faults that did.
        frames: Frames that were passed on.
    """

    def __init__(self, port: int, *faults: Fault, delay_s: float = 0.1, sockets: bool = True) -> None:
        self.port, self.faults, self.delay_s, self.sockets = port, list(faults), delay_s, sockets
        self.recorded: list[bytearray] = []
        self.happened: list[Fault] = []
        self.frames = 0
        self.connections = 0
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FaultyRelay:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.05)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._start(self._accept)
        return self

    def __exit__(self, *raised: object) -> None:
        self._stopping.set()
        self._threads[0].join()
        self._listening.close()
        self.cut()
        for thread in self._threads[1:]:
            thread.join()

    def cut(self) -> None:
        """End all connections now."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def take(self, connection: int, up: bool, frame: int) -> Kind | None:
        """What happens to a frame."""
        with self._lock:
            self.frames += 1
            for fault in self.faults:
                if (fault.connection, fault.up, fault.frame) == (connection, up, frame):
                    self.faults.remove(fault)
                    self.happened.append(fault)
                    return fault.kind
        return None

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="faulty-relay", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                near, _ = self._listening.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                except OSError:
                    near.close()
                    continue
                for each in (near, far):
                    each.settimeout(None)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {near, far}
                _Pair(self, near, far)

    def over(self, *sockets: socket.socket) -> None:
        """A connection has ended."""
        with self._lock:
            self._open.difference_update(sockets)
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class _Pair:
    """One connection, both ways."""

    def __init__(self, relay: FaultyRelay, near: socket.socket, far: socket.socket) -> None:
        self._relay, self._ends = relay, (near, far)
        self._number = -1
        self._left, self._lock = 2, threading.Lock()
        self._recorded = bytearray()
        relay.recorded.append(self._recorded)
        for up, source, sink in ((True, near, far), (False, far, near)):
            relay._start(self._pump, up, source, sink)

    def _pump(self, up: bool, source: socket.socket, sink: socket.socket) -> None:
        try:
            stream = source.makefile("rb")
            head = self._head(stream)
            if not head:
                return
            upgrade = b"upgrade: websocket" in head.lower()
            if upgrade and not self._relay.sockets:
                raise EOFError
            sink.sendall(head)
            if up:
                self._recorded += head
            if upgrade and up:
                with self._relay._lock:
                    self._number = self._relay.connections
                    self._relay.connections += 1
            if upgrade:
                self._frames(up, stream, sink)
            else:
                while data := stream.read1(1 << 16):
                    self._recorded += data if up else b""
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
        except (OSError, ValueError, EOFError):
            self._end()
        finally:
            with self._lock:
                self._left -= 1
                last = not self._left
            if last:
                self._relay.over(*self._ends)

    def _frames(self, up: bool, stream: object, sink: socket.socket) -> None:
        number, held, ending = 0, b"", threading.Timer(0, self._end)
        while True:
            frame = _frame(stream)
            self._recorded += frame if up else b""
            kind = self._relay.take(self._number, up, number)
            number += 1
            if kind is Kind.KILL:
                raise EOFError
            if kind is Kind.TRUNCATE:
                sink.sendall(frame[: len(frame) // 2])
                raise EOFError
            if kind is Kind.DROP:
                continue
            if kind is Kind.DELAY:
                self._relay._stopping.wait(self._relay.delay_s)
            if kind is Kind.REORDER:
                held = frame
                ending = threading.Timer(_MOST_HELD_S, self._end)  # nothing came after it: the connection ends
                ending.start()
                continue
            sink.sendall(frame * 2 if kind is Kind.DUPLICATE else frame)
            if held:
                sink.sendall(held)
                held = b""
                ending.cancel()

    def _end(self) -> None:
        for each in self._ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _head(stream: object) -> bytes:
        lines = []
        while line := stream.readline(1 << 16):  # type: ignore[attr-defined]
            lines.append(line)
            if line == b"\r\n":
                break
        return b"".join(lines)


def _frame(stream: object) -> bytes:
    """One frame, whole."""
    head = _exactly(stream, 2)
    length, masked = head[1] & 127, head[1] & 128
    extended = _exactly(stream, {126: 2, 127: 8}.get(length, 0))
    size = int.from_bytes(extended, "big") if extended else length
    return head + extended + _exactly(stream, size + (4 if masked else 0))


def _exactly(stream: object, count: int) -> bytes:
    data = stream.read(count) if count else b""  # type: ignore[attr-defined]
    if len(data) < count:
        raise EOFError
    return bytes(data)
