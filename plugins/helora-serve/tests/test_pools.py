"""Correlations prepared over the socket: filled, refilled, bounded, and kept through a restart of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helora_core as helora
from helora_core.errors import CorrelationUsed, LimitExceeded
from helora_core.parties.client import Client


def prepare(client: Any, session: Any, count: int = 50) -> None:
    preparation = client.prepare("q", count)
    while not preparation.done:
        preparation.receive(session.answer(preparation.message()))


def test_fill_use_and_refill(serving: Any, world: Any, artifact_ahead: Path, until: Any) -> None:
    served = serving({"": artifact_ahead}, assume=world.assume)
    remote = served.connect()
    client = Client(remote.offer(), low_water=20)
    session = remote.open(client.evaluation_keys())
    prepare(client, session)
    with helora.Refill(client, remote.open(client.evaluation_keys()), "q", 60):
        for seed in range(10):
            assert world.right(client.run("q", world.x(5, seed), session), world.x(5, seed))
            until(lambda: client.left("q") >= 20)


def test_correlations_outlive_the_server_and_none_is_used_twice(
    serving: Any, world: Any, artifact_ahead: Path, tmp_path: Path
) -> None:
    options = {"assume": world.assume, "state": tmp_path / "state"}
    served = serving({"": artifact_ahead}, **options)
    client, session = served.session()
    prepare(client, session, 200)
    used = client.begin("q", world.x(1))
    message = used.message()
    session.answer(message)
    served.host.stop()
    served.host._thread.join()
    again = serving({"": artifact_ahead}, host={"port": served.host.port}, **options)
    failed = 0
    for seed in range(100):  # reserved ones are skipped by the server after a restart, and refused by name
        try:
            assert world.right(client.run("q", world.x(1, seed), session), world.x(1, seed))
        except CorrelationUsed:
            failed += 1
    assert 0 < failed < 64
    assert again.metric("helora_key_uploads_total") == 0  # the keys outlived it too
    for _ in range(2):
        try:
            session.answer(message)
            raise AssertionError("a used correlation was answered")
        except CorrelationUsed:
            pass


def test_a_clients_correlations_are_bounded(serving: Any, world: Any, artifact_ahead: Path, refused: Any) -> None:
    served = serving({"": artifact_ahead}, assume=world.assume, correlations=60)
    client, session = served.session()
    prepare(client, session, 50)
    with refused(LimitExceeded, "60"):
        prepare(client, session, 50)
    assert world.right(client.run("q", world.x(2), session), world.x(2))


def test_what_is_prepared_counts_as_queries_before_it_is_shown(
    serving: Any, world: Any, artifact_ahead: Path, refused: Any
) -> None:
    served = serving({"": artifact_ahead}, assume=world.assume, queries=60)
    client, session = served.session()
    prepare(client, session, 50)
    with refused(LimitExceeded, "50 queries"):
        prepare(client, session, 50)
    assert served.metric("helora_queries_total") == 50


def test_a_preparation_survives_cuts(serving: Any, relayed: Any, world: Any, artifact_ahead: Path) -> None:
    served = serving({"": artifact_ahead}, assume=world.assume)
    cuts = [("TRUNCATE", up, frame, number) for number, (up, frame) in enumerate([(True, 1), (False, 1)] * 3)]
    relay = relayed(served.host.port, *cuts)
    client, session = served.session(relay.url)
    prepare(client, session)
    assert relay.happened
    assert world.right(client.run("q", world.x(20), session), world.x(20))


def test_a_reload_keeps_what_was_prepared(serving: Any, world: Any, artifact_ahead: Path, tmp_path: Path) -> None:
    served = serving({"": artifact_ahead}, assume=world.assume, state=tmp_path / "state")
    client, session = served.session()
    prepare(client, session)
    assert not served.host.reload()
    for seed in range(10):
        assert world.right(client.run("q", world.x(5, seed), session), world.x(5, seed))


def test_activations_under_a_pad_are_answered_in_the_loop(serving: Any, world: Any, artifact_ahead: Path) -> None:
    served = serving({"": artifact_ahead}, assume=world.assume)
    client, session = served.session()
    prepare(client, session)
    assert world.right(client.run("q", world.x(1), session), world.x(1))  # the first one makes the module ready
    handed_over = served.metric("helora_wait_seconds_count")
    for seed in range(10):
        assert world.right(client.run("q", world.x(2, seed), session), world.x(2, seed))
    assert served.metric("helora_wait_seconds_count") == handed_over


def test_ciphertexts_are_never_computed_in_the_loop(serving: Any, world: Any) -> None:
    served = serving()
    client, session = served.session()
    for seed in range(3):
        assert world.right(client.run("q", world.x(1, seed), session), world.x(1, seed))
    assert served.metric("helora_wait_seconds_count") == served.computed == 3
