"""What makes a server's event loop late: each thing that a server does, provoked some times. ``python lag.py``.

The server runs in a process of its own, the clients in this one. What others do on the machine only makes a loop later,
so that of all repetitions the least counts; beside it stands the same of a loop that does nothing, in a third process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import soak
from soak_clients import recorded

from helora_core.parties.client import Client
from helora_core.privacy.leakage import Assumption
from helora_serve.client import connect

TICK_S = 0.001
REPETITIONS = 5
WORKERS = 2


class Watched:
    """A process with an event loop that is watched, and, if there is something to serve, a server on it.

    Args:
        folders: Artifacts by name; none for a loop that does nothing.
        tuned: Whether the process is set up as ``helora serve`` sets itself up.
    """

    def __init__(self, folders: dict[str, Path], *, tuned: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._end, theirs = context.Pipe()
        self._process = context.Process(target=_watched, args=(folders, tuned, theirs), daemon=True)
        self._process.start()
        self.url: str = self._end.recv()

    def do(self, what: str) -> Any:
        """``longest`` gives how late the loop was, in seconds, since it was asked last; others are done there."""
        self._end.send(what)
        return self._end.recv()


def _watched(folders: dict[str, Path], tuned: bool, end: Any) -> None:
    asyncio.run(_serve(folders, tuned, end))


async def _serve(folders: dict[str, Path], tuned: bool, end: Any) -> None:
    from helora_serve.host import Host, settle
    from helora_serve.limits import Limits
    from helora_serve.loading import Artifacts
    from helora_serve.service import Service
    from helora_serve.worker import Threads

    loop, longest = asyncio.get_running_loop(), [0.0]
    url, host = "", None
    if folders:
        limits = Limits(client_sessions=32)
        load = Artifacts(folders, limits=limits, backend=soak.BACKEND, assume=frozenset({Assumption.HONEST_KEYS}))
        host = Host(Service(load, limits=limits, worker=Threads(WORKERS)))
        serving, url = loop.create_task(host.run()), host.url
        while not host.started:
            await asyncio.sleep(0.01)
    if tuned:
        settle()

    async def watch() -> None:
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            longest[0] = max(longest[0], time.perf_counter() - due)

    def told() -> None:
        try:
            what = end.recv()
        except EOFError:  # the other process has ended
            os._exit(0)
        if what == "longest":
            end.send(longest[0])
            longest[0] = 0.0
        elif what == "collect":
            gc.collect()
            end.send(None)
        elif what == "reload":
            assert host is not None
            task = loop.create_task(host.service.reload())
            task.add_done_callback(lambda done: end.send(None))

    watching = loop.create_task(watch())
    loop.add_reader(end.fileno(), told)
    end.send(url)
    await (serving if folders else watching)


def causes(url: str, server: Watched, inputs: int) -> dict[str, Callable[[], object]]:
    """What a server does, by name."""
    remote = connect(url, timeout=300)
    client = Client(remote.offer())
    keys = client.evaluation_keys()
    session = remote.open(keys)
    layers = recorded(inputs)
    names = {each.modules[0]: each.modules for each in layers}
    online = {name: [f"online/{each}" for each in modules] for name, modules in names.items()}
    ahead = [f"ahead/{each}" for each in layers[0].modules]
    x, fresh = layers[0].x[:1], iter(layers[1:])
    client.run(online[layers[0].modules[0]], x, session)

    def prepare() -> None:
        preparation = client.prepare(ahead, 64)
        while not preparation.done:
            preparation.receive(session.answer(preparation.message()))

    prepare()

    def first() -> None:
        layer = next(fresh)
        client.run(online[layer.modules[0]], layer.x[:1], session)

    def upload() -> None:
        other = Client(remote.offer())
        remote.open(other.evaluation_keys()).close()

    def ask() -> None:
        client.run(online[layers[0].modules[0]], x, session)

    def at_once() -> None:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    return {
        "nothing": lambda: time.sleep(0.3),
        "a request, online": ask,
        "four at once": at_once,
        "ten prepared requests": lambda: [client.run(ahead, x, session) for _ in range(10)],
        "a batch is prepared": prepare,
        "weights of a layer are encoded": first,
        "a session with keys that are there": lambda: remote.open(keys).close(),
        "a session, with keys": upload,
        "the offer": remote.offer,
        "metrics": lambda: remote._connector.http.get("/metrics"),
        "a reload": lambda: server.do("reload"),
        "a full garbage collection": lambda: server.do("collect"),
    }


def main(given: argparse.Namespace) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place) / name for name in ("online", "ahead")}
        soak.compiled(folders["online"], "online")
        soak.compiled(folders["ahead"], "precomputed")
        server, bare = Watched(folders, tuned=not given.untuned), Watched({}, tuned=False)
        print(f"{'cause':36} {'ms late':>8} {'bare':>8}   (least of the longest of {given.repetitions})")
        for name, cause in causes(server.url, server, given.repetitions + 2).items():
            found = []
            for _ in range(given.repetitions):
                server.do("longest"), bare.do("longest")
                cause()
                time.sleep(0.02)  # whatever it left in the loop has come
                found.append((server.do("longest"), bare.do("longest")))
            late, alone = (1e3 * min(each) for each in zip(*found, strict=True))
            print(f"{name:36} {late:8.1f} {alone:8.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--untuned", action="store_true", help="without what helora serve sets in its process")
    main(parser.parse_args())
