"""What serving costs: a request to a server in another process, beside the same one in this process, by turns."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from soak_clients import prepare, recorded

from helora_core.parties.batches import AllBatches
from helora_core.parties.client import Client
from helora_core.privacy.leakage import Assumption
from helora_serve.client import connect
from helora_serve.limits import Limits
from helora_serve.loading import Artifacts

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
        echo: As many bytes to another process and back over a bare socket, with no work.
    """

    plan: str
    requests: int
    bytes_up: int
    bytes_down: int
    in_process: tuple[float, float]
    served: tuple[float, float]
    echo: tuple[float, float]


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
    server = load(AllBatches(None, limits.of_server)).server
    with connect(url, timeout=300) as remote:
        parties: list[tuple[Client, Any]] = []
        for host in (server, remote):
            client = Client(host.offer())
            parties.append((client, host.open(client.evaluation_keys())))
            if plan == "precomputed":
                prepare(client, parties[-1][1], layer.modules)
        request = parties[0][0].begin(layer.modules, layer.x[:1])
        up = len(request.message())
        down = len(parties[0][1].answer(request.message()))

        def ask(client: Client, session: Any, turn: int) -> None:
            at = turn % len(layer.x)
            client.delta(layer.modules, layer.x[at : at + 1], session)

        with _Echo(up, down) as echo:
            kinds: list[Callable[[int], object]] = [
                lambda turn: ask(*parties[0], turn), lambda turn: ask(*parties[1], turn), lambda turn: echo.ask(),
            ]  # fmt: skip
            found: list[list[float]] = [[], [], []]
            for first in range(0, requests, _TURN):
                for times, kind in zip(found, kinds, strict=True):
                    for turn in range(first, first + _TURN + 1):
                        start = time.perf_counter()
                        kind(turn)
                        if turn > first:
                            times.append(time.perf_counter() - start)
    in_process, over, bare = (_summed_up(times) for times in found)
    return Overhead(
        plan=plan, requests=len(found[0]), bytes_up=up, bytes_down=down,
        in_process=in_process, served=over, echo=bare,
    )  # fmt: skip


def _summed_up(times: list[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return round(1e6 * ordered[len(ordered) // 2], 1), round(1e6 * ordered[0], 1)


class _Echo:
    """A process that takes so many bytes and sends so many back."""

    def __init__(self, up: int, down: int) -> None:
        self._message, self._down = bytes(up), down
        listening = socket.create_server(("127.0.0.1", 0))
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_echo, args=(listening, up, down), daemon=True)
        self._process.start()
        self._socket = socket.create_connection(listening.getsockname())
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.close()

    def __enter__(self) -> _Echo:
        return self

    def __exit__(self, *raised: object) -> None:
        self._socket.close()
        self._process.join()

    def ask(self) -> None:
        """There and back."""
        self._socket.sendall(self._message)
        left = self._down
        while left:
            left -= len(self._socket.recv(1 << 20))


def _echo(listening: socket.socket, up: int, down: int) -> None:
    peer, answer = listening.accept()[0], bytes(down)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        left = up
        while left:
            data = peer.recv(1 << 20)
            if not data:
                return
            left -= len(data)
        peer.sendall(answer)
