"""Batches in the making, and the pools that they end in: bounds, repeats, keys, and what another upload changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.artifact.plan_file import Demands
from helora_core.artifact.write import write_artifact
from helora_core.errors import (
    BackendUnavailable,
    CorruptPayload,
    InvalidInput,
    LeakageRefused,
    LimitExceeded,
    PoolEmpty,
    UnexpectedMessage,
)
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.limits import ServerLimits
from helora_core.parties.server import Server
from helora_core.parties.store import MemoryStore
from tests.parties.ahead import ASSUME, integer_delta
from tests.parties.pair import MODULES, SHAPE, Pair, altered, client_of, server_of, through, upload_of, x_of


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.of()


class TestPreparation:
    def test_each_message_that_comes_again_is_answered_with_the_same_bytes(self, pair: Pair) -> None:
        preparation = pair.client.prepare(["q", "v"], 5)
        while not preparation.done:
            message = preparation.message()
            assert preparation.message() == message
            answer = pair.session.answer(message)
            assert pair.session.answer(message) == answer
            preparation.receive(answer)
        x = x_of(5)
        np.testing.assert_array_equal(pair.delta("q", x), integer_delta(MODULES["q"], x))
        pair.client.discard("q")

    def test_another_upload_has_other_masks(self, pair: Pair) -> None:
        """Also of one random seed of the server: with equal masks, the difference of two batches' results would be W
        times what the client chose. And a batch that was begun takes no message of another."""
        first, second = (pair.client.prepare("q", 1) for _ in range(2))
        for preparation in (first, second):
            preparation.receive(pair.session.answer(preparation.message()))
        with pytest.raises(UnexpectedMessage):
            pair.session.answer(altered(second.message(), request=upload_of(first.message()).request))
        making = [pair.session._held[each._id].work for each in (first, second)]
        making[1]._random = making[0]._random  # type: ignore[attr-defined]
        for preparation in (first, second):
            preparation.receive(pair.session.answer(preparation.message()))
        assert making[0].secret != making[1].secret  # type: ignore[attr-defined]
        through(first, pair.session)
        through(second, pair.session)
        pair.client.discard("q")

    def test_the_key_of_a_batch_is_its_own_and_gone_when_it_is_ready(self, pair: Pair) -> None:
        preparation = pair.client.prepare("q", 8193)  # two batches
        keys = []
        while not preparation.done:
            message = preparation.message()
            payloads = [each for payloads in upload_of(message).ciphertexts for each in payloads]
            if len(payloads) == 2:
                keys.append((preparation._key, payloads[0]))
            preparation.receive(pair.session.answer(message))
        assert len(keys) == len({public for _, public in keys}) == 2
        for key, _ in keys:
            with pytest.raises(InvalidInput, match="erased"):
                key.encrypt(np.zeros((1, 8192), dtype=np.uint64))
        pair.client.discard("q")

    def test_a_batch_is_prepared_once(self, refused: Any) -> None:
        now = [0.0]
        pair = Pair.of(clock=lambda: now[0])
        preparation = pair.client.prepare("q", 2)
        begun = preparation.message()
        while not preparation.done:
            last = preparation.message()
            preparation.receive(pair.session.answer(last))
        now[0] += 2 * pair.server.limits.idle_s
        for message in (begun, last):
            with refused(UnexpectedMessage):
                pair.session.answer(message)
        x = x_of(2)
        np.testing.assert_array_equal(pair.delta("q", x), integer_delta(MODULES["q"], x))

    def test_damaged_pieces_are_refused_and_the_batch_goes_on(self, pair: Pair, refused: Any) -> None:
        preparation = pair.client.prepare("q", 3)
        while not preparation.done:
            message = preparation.message()
            for payloads in upload_of(message).ciphertexts:
                for changed in ([], [*payloads, b""], [each[:-1] for each in payloads]):
                    if tuple(changed) != payloads:
                        with refused(CorruptPayload):
                            pair.session.answer(altered(message, ciphertexts=(tuple(changed),)))
            preparation.receive(pair.session.answer(message))
        x = x_of(3)
        np.testing.assert_array_equal(pair.delta("q", x), integer_delta(MODULES["q"], x))

    def test_progress_is_told(self, pair: Pair) -> None:
        told: list[float] = []
        through(pair.client.prepare("q", 8200, on_correlations=told.append), pair.session)
        assert told == sorted(told)
        assert told[-1] == 8200
        assert len(told) > 4
        pair.client.discard("q")


class TestPools:
    def test_an_empty_pool_is_refused_or_another_plan_is_taken(self, pair: Pair, refused: Any) -> None:
        x = x_of(3)
        pair.client.discard(["q", "v"])
        pair.prepare("q", 2)
        with refused(PoolEmpty, "3 correlations", "has 2", hint="client.prepare"):
            pair.client.begin("q", x)
        request = pair.client.begin("q", x, otherwise="online")
        while not request.done:
            request.receive(pair.session.answer(request.message()))
        reference = MODULES["online"].module.reference_delta(x)  # type: ignore[union-attr]
        assert np.max(np.abs(request.delta - reference)) < 1e-2
        assert pair.client.pools["q",].left == 2
        pair.client.discard("q")

    def test_levels_tell_what_is_left_and_what_is_low(self) -> None:
        server = server_of()
        client = client_of(server, low_water=3)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare(["q", "v"], 4)
        pair.prepare("v", 1)
        levels = {modules: (level.left, level.low) for modules, level in client.pools.items()}
        assert levels == {("q", "v"): (4, False), ("v",): (1, True)}
        pair.delta("v", x_of(1))  # of the pool for v alone
        pair.delta("v", x_of(2))
        levels = {modules: (level.left, level.low) for modules, level in client.pools.items()}
        assert levels == {("q", "v"): (2, True), ("v",): (0, True)}

    def test_a_server_bounds_what_clients_prepare(self, refused: Any) -> None:
        pair = Pair.of(limits=ServerLimits(correlations=10, batches=2))
        with refused(LimitExceeded, "1 to 10"):
            pair.prepare("q", 11)
        pair.prepare("q", 6)
        with refused(LimitExceeded, "6 correlations", hint="Use some"):
            pair.prepare("q", 6)
        pair.prepare("q", 2)
        with refused(LimitExceeded, "2 batches"):
            pair.prepare("q", 1)
        pair.delta("q", x_of(6))
        pair.prepare("q", 1)

    def test_a_server_counts_queries_also_of_used_up_batches_and_after_a_restart(self, refused: Any) -> None:
        store, limits = MemoryStore(), ServerLimits(queries=10)
        pair = Pair.of(store=store, limits=limits)
        pair.prepare("q", 8)
        pair.delta("q", x_of(8))
        pair.prepare("q", 2)
        session = server_of(store=store, limits=limits).open(pair.client.evaluation_keys())
        with refused(LimitExceeded, "10 tokens", "10 in all", hint="ServerLimits.queries"):
            session.answer(pair.client.prepare("q", 1).message())

    def test_a_server_counts_queries_before_a_result_leaves(self, refused: Any) -> None:
        """Of batches that are begun together, and of those that are given up before their last message."""
        store, limits = MemoryStore(), ServerLimits(queries=10)
        pair = Pair.of(store=store, limits=limits)
        first, second = pair.client.prepare("q", 8), pair.client.prepare("q", 8)
        for preparation in (first, second):
            preparation.receive(pair.session.answer(preparation.message()))
        first.receive(pair.session.answer(first.message()))  # all is uploaded; no result has left
        with refused(LimitExceeded, "8 tokens", "10 in all"):
            pair.session.answer(second.message())
        session = server_of(store=store, limits=limits).open(pair.client.evaluation_keys())
        with refused(LimitExceeded, "8 tokens"):
            session.answer(pair.client.prepare("q", 3).message())
        session.answer(pair.client.prepare("q", 2).message())

    def test_an_artifact_is_served_if_what_it_assumes_is_accepted(self, refused: Any, tmp_path: Path) -> None:
        write_artifact(tmp_path / "served", [MODULES["q"]])
        with refused(LeakageRefused, hint="--assume honest-keys"):
            Server.load(tmp_path / "served", backend="numpy")
        server = Server.load(tmp_path / "served", backend="numpy", demands=Demands(assume=frozenset(ASSUME)))
        client, x = client_of(server), x_of(2)
        session = server.open(client.evaluation_keys())
        through(client.prepare("q", 2), session)
        np.testing.assert_array_equal(client.delta("q", x, session), integer_delta(MODULES["q"], x))

    def test_a_client_bounds_what_it_holds(self, refused: Any) -> None:
        server = server_of()
        client = client_of(server, pool_bytes=10 * 8 * SHAPE.d_out)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 6)
        with refused(LimitExceeded, "120 bytes more", hint="pool_bytes"):
            client.prepare("q", 5)
        pair.delta("q", x_of(6))
        pair.prepare("q", 10)

    def test_on_a_backend_without_correlations_there_are_no_pools(self) -> None:
        try:
            backend = get_manager().load_backend("tenseal")
        except BackendUnavailable as error:
            pytest.skip(error.message)
        client = Client(Server({"online": MODULES["online"]}, backend).offer(), backend=backend)
        assert client.pools == {}
        client.discard("online")

    def test_nothing_to_prepare_is_said(self, pair: Pair, refused: Any) -> None:
        for modules, count in (("online", 1), (["q", "online"], 1), ("q", 0)):
            with refused(InvalidInput):
                pair.client.prepare(modules, count)
