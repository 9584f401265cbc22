"""Clients that generate at once: each a process of its own that replays recorded activations with real encryption.

A token of the bundled adapter is a request for each of its layers, one after another, each after the answer before. A
base model would run between them; here there is none, so that a client asks as fast as it can.
"""

from __future__ import annotations

import multiprocessing
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.errors import PoolEmpty
from helora_core.parties.client import Client
from helora_serve.client import connect

AHEAD = 8192
"""Correlations of a batch: as many as the ring has coefficients."""

TIMEOUT_S = 300.0


class Done(NamedTuple):
    """What one client did in the time measured.

    Attributes:
        answers: Seconds from message to answer, of each request.
        deltas: Seconds of each request, with the client's own work.
        ahead_s: Seconds of preparing.
        cpu_s: Its processor time.
        right: Whether Δ of the first request was within the bound that the client states.
    """

    answers: array[float]
    deltas: array[float]
    ahead_s: float
    cpu_s: float
    right: bool


class Recorded(NamedTuple):
    """One input of the adapter.

    Attributes:
        modules: Those that get it.
        x: Its tokens.
    """

    modules: list[str]
    x: Any


def recorded(most: int) -> list[Recorded]:
    """The first inputs of the bundled adapter, in order; at most so many."""
    activations = bundled_activations()
    layers: dict[str, list[str]] = {}
    for name in bundled_adapter().modules:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    ordered = sorted(layers.values(), key=lambda names: int(names[0].split("layers.")[1].split(".")[0]))
    return [Recorded(names, activations[names[0]]) for names in ordered[:most]]


class Clients:
    """Processes, all connected and with full pools once this is made.

    Args:
        url: The server.
        count: How many.
        inputs: Of how many inputs each asks, one after another.
        ahead: Whether their plans run ahead of time.
        on_ready: Called with how many are ready, while waiting.

    Attributes:
        inputs: The inputs.
    """

    def __init__(
        self, url: str, count: int, inputs: int, *, ahead: bool, on_ready: Callable[[int], object] = lambda ready: None
    ) -> None:
        self.inputs = recorded(inputs)
        context = multiprocessing.get_context("fork")
        self._ready, self._begin = context.Value("i", 0), context.Event()
        self._until = context.Value("d", 0.0)
        self._ends, self._processes = [], []
        for number in range(count):
            here, there = context.Pipe(duplex=False)
            given = (url, self.inputs, number, ahead, self._ready, self._begin, self._until, there)
            process = context.Process(target=_client, args=given, daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)
        while self._ready.value < count:
            on_ready(self._ready.value)
            dead = [each for each in self._processes if not each.is_alive()]
            if dead:
                raise RuntimeError(f"{len(dead)} clients ended before they were ready")
            time.sleep(0.1)

    def begin(self, seconds: float) -> None:
        """Let them ask for so long."""
        self._until.value = time.monotonic() + seconds
        self._begin.set()

    def done(self) -> list[Done]:
        """Wait for them."""
        found = [Done(*each.recv()) for each in self._ends]
        for process in self._processes:
            process.join()
        return found


def _client(
    url: str, inputs: list[Recorded], number: int, ahead: bool, ready: Any, begin: Any, until: Any, end: Any
) -> None:
    with connect(url, timeout=TIMEOUT_S) as remote:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        for each in inputs if ahead else ():
            prepare(client, session, each.modules)
        # The first client asks for all, so that the server has encoded all weights.
        right = all(_is_right(client, session, each) for each in (inputs if ahead or not number else inputs[:1]))
        with ready.get_lock():
            ready.value += 1
        begin.wait()
        cpu, answers, deltas, ahead_s = time.process_time(), array("f"), array("f"), 0.0
        for each, x in _tokens(inputs, number):
            start = time.perf_counter()
            if time.monotonic() > until.value:
                break
            try:
                request = client.begin(each.modules, x)
            except PoolEmpty:
                ahead_s += prepare(client, session, each.modules)
                continue
            message = request.message()
            asked = time.perf_counter()
            answer = session.answer(message)
            answers.append(time.perf_counter() - asked)
            request.receive(answer)
            deltas.append(time.perf_counter() - start)
        cpu = time.process_time() - cpu
    end.send((answers, deltas, ahead_s, cpu, right))
    end.close()


def _tokens(inputs: list[Recorded], first: int) -> Iterator[tuple[Recorded, Any]]:
    token = first
    while True:
        for each in inputs:
            at = token % len(each.x)
            yield each, each.x[at : at + 1]
        token += 1


def prepare(client: Client, session: Any, modules: list[str]) -> float:
    """Fill a pool. Returns the seconds that it took."""
    start = time.perf_counter()
    preparation = client.prepare(modules, AHEAD)
    while not preparation.done:
        preparation.receive(session.answer(preparation.message()))
    return time.perf_counter() - start


def _is_right(client: Client, session: Any, of: Recorded) -> bool:
    adapter = bundled_adapter().modules
    result = client.run(of.modules, of.x[:1], session)
    bound = max(float(each.max()) for each in result.error_bounds.values())
    errors = (np.abs(result.deltas[name] - adapter[name].reference_delta(of.x[:1])).max() for name in of.modules)
    return bool(max(errors) <= bound)
