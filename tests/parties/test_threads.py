"""Sessions of one server in several threads: each Δ is right, weights are encoded once, and requests can be refused."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from helora_core.errors import LimitExceeded
from helora_core.execution.constants import ConstantCache
from helora_core.host.manager import get_manager
from helora_core.parties.batches import AllBatches
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.limits import ServerLimits
from helora_core.parties.server import Server
from helora_core.parties.store import Deferred, MemoryStore, SharedStore, Write, innermost
from tests.parties.conftest import compiled, x_of
from tests.parties.pair import Pair, client_of, server_of, through

THREADS = 6


def test_threads_share_weights_that_are_encoded_once(lora: CompiledLoRA) -> None:
    encoded: list[int] = []
    server = Server(lora, constants=ConstantCache(on_constant=encoded.append))
    client = Client(server.offer(), backend=lora.backend)
    sessions = [server.open(client.evaluation_keys()) for _ in range(THREADS)]
    names, start = ["layer.q_proj", "layer.v_proj", "layer.two_rounds"], threading.Barrier(THREADS)

    def run(session: Any) -> list[Any]:
        start.wait()
        return [client.delta(name, x_of(2), session) for name in names for _ in range(2)]

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(run, sessions))
    once = len(encoded)
    for name in names:
        client.delta(name, x_of(2), sessions[0])
    assert len(encoded) == once
    alone = Server(lora, constants=ConstantCache(on_constant=encoded.append))
    session = alone.open(client.evaluation_keys())
    for i, name in enumerate(names):
        right = lora.by_name[name][0].module.reference_delta(x_of(2))  # type: ignore[union-attr]
        assert all(np.allclose(each[2 * i + j], right, atol=0.05) for each in found for j in range(2))
        client.delta(name, x_of(2), session)
    assert len(encoded) == 2 * once


def test_a_cache_over_its_budget_serves_threads_all_the_same() -> None:
    modules = {name: compiled(name, "rank_bsgs", seed) for seed, name in enumerate("abcd")}
    backend = get_manager().load_backend("numpy")
    server = Server(modules, backend, constants=ConstantCache(1))
    client = Client(server.offer(), backend=backend)

    def run(name: str) -> bool:
        session = server.open(client.evaluation_keys())
        right = modules[name].module.reference_delta(x_of(1))  # type: ignore[union-attr]
        return all(np.allclose(client.delta(name, x_of(1), session), right, atol=0.05) for _ in range(4))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, "abcd"))


def test_what_is_not_admitted_is_not_computed_and_not_held(lora: CompiledLoRA) -> None:
    server = Server(lora)
    client = Client(server.offer(), backend=lora.backend)
    asked: list[tuple[Sequence[str], int]] = []

    def admit(modules: Sequence[str], tokens: int) -> None:
        asked.append((tuple(modules), tokens))
        if tokens > 2:
            raise LimitExceeded("too many", hint="ask for fewer")

    session = server.open(client.evaluation_keys(), admit=admit)
    message = client.begin("layer.q_proj", x_of(2)).message()
    answers = {session.answer(message) for _ in range(3)}
    assert len(answers) == 1
    assert asked == [(("layer.q_proj",), 2)]  # repeats are answered without asking
    with pytest.raises(LimitExceeded, match="too many"):
        session.answer(client.begin("layer.q_proj", x_of(3)).message())
    assert session.requests == 1


def test_what_is_prepared_is_admitted_once_before_it_is_shown() -> None:
    asked: list[int] = []
    server = server_of()
    client = client_of(server)
    session = server.open(client.evaluation_keys(), admit=lambda modules, tokens: asked.append(tokens))
    through(client.prepare(["q", "v"], 5), session)
    client.delta(["q", "v"], x_of(2)[:, :4], session)
    assert asked == [5]


def test_servers_that_follow_each_other_share_batches() -> None:
    batches = AllBatches(MemoryStore(), ServerLimits())
    pair = Pair.of(store=batches)
    pair.prepare("q", 10)
    later = server_of(store=batches).open(pair.client.evaluation_keys())
    for link in (later, pair.session, later):
        assert np.isfinite(pair.client.delta("q", x_of(1)[:, :4], link)).all()


def test_threads_write_to_a_shared_store_one_after_another() -> None:
    inside, most = [], []

    class Watched(MemoryStore):
        def put_many(self, writes: Sequence[Write]) -> None:
            inside.append(1)
            most.append(len(inside))
            super().put_many(writes)
            inside.pop()

    store = SharedStore(Watched())
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: store.put_many([Write(f"k{i}", b"x")]), range(200)))
    assert max(most) == 1
    assert len(store.names("k")) == 200
    assert isinstance(innermost(SharedStore(Deferred())), Deferred)
