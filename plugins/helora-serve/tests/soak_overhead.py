"""What serving costs: a request to a server in another process, by turns with the same one in this process, and
with one to a process that does nothing but answer, over a bare socket: what two processes cost before any serving.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from soak_clients import prepare, recorded

from helora_core.parties.batches import AllBatches
from helora_core.parties.client import Client
from helora_core.parties.server import Server
from helora_core.privacy.leakage import Assumption
from helora_serve.client import connect
from helora_serve.limits import Limits
from helora_serve.loading import Artifacts

_LENGTH = struct.Struct(">Q")
_TURN = 20
"""Requests of one kind before those of the next; the first of them is warm-up."""


class Overhead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request of one token and layer, both messages, with the client's own work. Times are microseconds: 50 % and the
    least.

    Attributes:
        plan: ``online`` or ``precomputed``.
        requests: Of each kind.
        bytes_up, bytes_down: Its messages.
        in_process: Both parties in one process.
        served: Over WebSocket, loopback.
        apart: The same parties in two processes, over a bare socket: no WebSocket, event loop, session or limit.
    """

    plan: str
    requests: int
    bytes_up: int
    bytes_down: int
    in_process: tuple[float, float]
    served: tuple[float, float]
    apart: tuple[float, float]


def overhead(plan: str, served: Path, url: str, backend: str, requests: int) -> Overhead:
    """Measure it.

    Args:
        plan: ``online`` or ``precomputed``.
        served: The artifact.
        url: Its server.
        backend: Its backend.
        requests: How many of each kind.
    """
    layer, limits = recorded(1)[0], Limits()
    load = Artifacts({"": served}, limits=limits, backend=backend, assume=frozenset({Assumption.HONEST_KEYS}))

    def loaded() -> Server:
        return load(AllBatches(None, limits.of_server)).server

    with _Apart(loaded) as apart, connect(url, timeout=300) as remote:
        parties: list[tuple[Client, Any]] = []
        for host in (loaded(), apart, remote):
            client = Client(host.offer())
            parties.append((client, host.open(client.evaluation_keys())))
            if plan == "precomputed":
                prepare(client, parties[-1][1], layer.modules)
        request = parties[0][0].begin(layer.modules, layer.x[:1])
        up = len(request.message())
        down = len(parties[0][1].answer(request.message()))
        found: list[list[float]] = [[], [], []]
        for first in range(0, requests, _TURN):
            for times, (client, session) in zip(found, parties, strict=True):
                for turn in range(first, first + _TURN + 1):
                    at, start = turn % len(layer.x), time.perf_counter()
                    client.delta(layer.modules, layer.x[at : at + 1], session)
                    if turn > first:
                        times.append(time.perf_counter() - start)
    in_process, bare, over = (_summed_up(times) for times in found)
    return Overhead(
        plan=plan, requests=len(found[0]), bytes_up=up, bytes_down=down,
        in_process=in_process, served=over, apart=bare,
    )  # fmt: skip


def _summed_up(times: list[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return round(1e6 * ordered[len(ordered) // 2], 1), round(1e6 * ordered[0], 1)


class _Apart:
    """A server in a process that answers one client over a socket, each message behind its length.

    Args:
        loaded: Loads the server, there.
    """

    def __init__(self, loaded: Callable[[], Server]) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_answering, args=(listening, loaded), daemon=True)
        self._process.start()
        self._socket = socket.create_connection(listening.getsockname())
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.close()
        self._offer = _received(self._socket)

    def __enter__(self) -> _Apart:
        return self

    def __exit__(self, *raised: object) -> None:
        self._socket.close()
        self._process.join()

    def offer(self) -> bytes:
        """The server's offer."""
        return self._offer

    def open(self, evaluation_keys: bytes) -> _Apart:
        """The one session."""
        _send(self._socket, evaluation_keys)
        return self

    def answer(self, message: bytes) -> bytes:
        """The session's answer."""
        _send(self._socket, message)
        return _received(self._socket)


def _answering(listening: socket.socket, loaded: Callable[[], Server]) -> None:
    peer = listening.accept()[0]
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = loaded()
    _send(peer, server.offer())
    session = server.open(_received(peer))
    with contextlib.suppress(EOFError):
        while True:
            _send(peer, session.answer(_received(peer)))


def _send(to: socket.socket, message: bytes) -> None:
    to.sendall(_LENGTH.pack(len(message)) + message)


def _received(peer: socket.socket) -> bytes:
    return bytes(_exactly(peer, _LENGTH.unpack(_exactly(peer, _LENGTH.size))[0]))


def _exactly(peer: socket.socket, count: int) -> bytearray:
    data, have = bytearray(count), 0
    while have < count:
        got = peer.recv_into(memoryview(data)[have:])
        if not got:
            raise EOFError
        have += got
    return data
