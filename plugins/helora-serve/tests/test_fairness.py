"""Nobody takes all: a client has so many sessions, and sessions are computed by turns, whatever each has in flight."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helora_core.errors import LimitExceeded
from helora_core.parties.client import Client
from helora_core.parties.server import Server
from helora_serve.catalogue import fixed
from helora_serve.client import connect
from helora_serve.host import Host
from helora_serve.limits import Limits
from helora_serve.service import Service
from helora_serve.worker import Threads


def test_a_client_may_not_take_all_sessions(serving: Any, world: Any, alice: Any, refused: Any, until: Any) -> None:
    tokens, token = alice
    served = serving(tokens=tokens, sessions=4, client_sessions=2)
    remote = served.connect(token=token)
    first, second = (Client(remote.offer()) for _ in range(2))  # other keys are the same client
    sessions = [remote.open(each.evaluation_keys()) for each in (first, second)]
    with refused(LimitExceeded, "this client has 2 sessions"):
        remote.open(first.evaluation_keys())
    assert world.right(first.run("q", world.x(1), sessions[0]), world.x(1))
    sessions[1].close()
    until(lambda: len(served.service.sessions) == 1)
    third = remote.open(first.evaluation_keys())
    assert world.right(first.run("q", world.x(1), third), world.x(1))


def test_without_names_it_is_those_of_the_same_keys(serving: Any, world: Any, refused: Any) -> None:
    served = serving(client_sessions=1)
    remote = served.connect()
    client = Client(remote.offer())
    remote.open(client.evaluation_keys())
    with refused(LimitExceeded, "this client has 1 session,"):
        remote.open(client.evaluation_keys())
    other, session = served.session()
    assert world.right(other.run("q", world.x(1), session), world.x(1))


class OneThread(Threads):
    """A thread, and how many other requests it computed between each request's coming and its turn."""

    def __init__(self) -> None:
        super().__init__(1)
        self.computed = 0
        self.passed: dict[int, list[int]] = {}

    async def submit(self, session: Any, message: bytes) -> bytes:
        came = self.computed

        def counted() -> bytes:
            self.passed.setdefault(id(session), []).append(self.computed - came)
            self.computed += 1
            answer: bytes = session.answer(message)
            return answer

        return await self._run(counted)


@pytest.mark.parametrize("greedy", [1, 3])
def test_one_request_at_a_time_gets_its_turn_beside_many(world: Any, greedy: int, until: Any) -> None:
    """With one thread, each other session has at most one turn between: not one for each request that it has in
    flight."""
    load, worker = fixed(Server(world.lora())), OneThread()
    with (
        Host(Service(lambda batches: load(), worker=worker, limits=Limits(credits=3))) as host,
        connect(host.url) as remote,
    ):
        clients = [Client(remote.offer()) for _ in range(1 + greedy)]
        sessions = [remote.open(each.evaluation_keys()) for each in clients]
        credits, done = sessions[1].welcome.credits, threading.Event()
        asked = [0] * len(clients)

        def ask(which: int) -> None:
            while not done.is_set():
                clients[which].run("q", world.x(1), sessions[which])
                asked[which] += 1

        with ThreadPoolExecutor(greedy * credits) as threads:
            asking = [threads.submit(ask, 1 + which) for which in range(greedy) for _ in range(credits)]
            try:
                until(lambda: min(asked[1:]) > 0)
                for seed in range(20):
                    assert world.right(clients[0].run("q", world.x(1, seed), sessions[0]), world.x(1, seed))
            finally:
                done.set()
            for each in asking:
                each.result()
        (core,) = (each.core for each in host.service.sessions.all if each.name == sessions[0]._name)
        modest = worker.passed[id(core)]
    assert len(modest) == 20
    assert max(modest) <= greedy
