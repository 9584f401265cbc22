"""A slow network between two processes of one machine, for tests and benchmarks: a TCP relay that delays bytes."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from helora_core.errors import ConnectionLost
from helora_transformers.link.address import Address, dial, listen, parse

_PIECE = 16 << 10
_IN_FLIGHT = 4096
"""Pieces that are on their way at once, in one direction: 64 MiB."""
_POLL_S = 0.1
_AHEAD_S = 5e-3
"""Seconds that bytes are read ahead of the rate, since short sleeps are not exact; they leave when they are due."""


class Relay:
    """Passes connections on to a link's address: ``with Relay(target, delay_ms=10, bits_per_second=1e8) as address:``.

    Each direction of each connection keeps its order, and has the rate to itself.

    Args:
        target: Where to.
        delay_ms: Milliseconds that each byte takes, one way.
        bits_per_second: Rate in each direction; None for no limit.
        record: Whether to keep what passes.

    Attributes:
        recorded: What passed, one for each direction of each connection, if it is kept.
    """

    def __init__(
        self, target: str, *, delay_ms: float = 0.0, bits_per_second: float | None = None, record: bool = False
    ) -> None:
        self.recorded: list[bytearray] = []
        self._record = record
        self._target, self._delay_s = parse(target), delay_ms / 1e3
        self._seconds_a_byte = 8 / bits_per_second if bits_per_second else 0.0
        self._stopping = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> str:
        self._listener, address = listen(Address(host="127.0.0.1"))
        self._listener.settimeout(_POLL_S)
        self._start(self._accept)
        return str(address)

    def __exit__(self, *raised: object) -> None:
        self._stopping.set()
        self._threads[0].join()  # from now on there are no more connections
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="helora-relay", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                near, _ = self._listener.accept()
                try:
                    far = dial(self._target, timeout=10)
                except ConnectionLost:
                    near.close()
                    continue
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for each in (near, far):
                    each.settimeout(None)
                self._sockets += (near, far)
                for source, sink in ((near, far), (far, near)):
                    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(_IN_FLIGHT)
                    self._start(self._take_in, source, pieces)
                    self._start(self._give_out, pieces, sink)

    def _take_in(self, source: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        """Read about as fast as the rate, and note when each piece is due; an empty one is the end."""
        free, data, kept = 0.0, b"first", bytearray()
        self.recorded.append(kept)
        while data:
            try:
                data = source.recv(_PIECE)
            except OSError:
                data = b""
            if self._record:
                kept += data
            free = max(free, time.monotonic()) + len(data) * self._seconds_a_byte
            if (ahead := free - time.monotonic()) > _AHEAD_S:
                self._stopping.wait(ahead)
            pieces.put((free + self._delay_s, data))

    def _give_out(self, pieces: queue.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        due, data = pieces.get()
        while data:
            self._stopping.wait(max(0.0, due - time.monotonic()))
            with suppress(OSError):  # the other end is gone: what comes is still taken, so that its sender goes on
                sink.sendall(data)
            due, data = pieces.get()
        self._stopping.wait(max(0.0, due - time.monotonic()))
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
