"""Two parties with a server between them: Δ is right, refusals keep their types, and clients do not meet each other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helora_core.errors import (
    AccessRefused,
    ConnectionLost,
    CorruptPayload,
    InvalidInput,
    LimitExceeded,
    VersionMismatch,
)
from helora_core.parties.client import Client
from helora_core.parties.server import Server
from helora_serve.catalogue import fixed
from helora_serve.client import connect
from helora_serve.host import Host
from helora_serve.service import Service


@pytest.mark.parametrize("packing", ["rank_bsgs", "cheetah_two_round"])
@pytest.mark.parametrize("backend", ["numpy", "rns"])
def test_delta_is_right(world: Any, backend: str, packing: str) -> None:
    load = fixed(Server(world.lora(backend, packing)))
    with Host(Service(lambda batches: load())) as host, connect(host.url) as remote:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        x = world.x(3)
        assert world.right(client.run("q", x, session), x)
        assert world.right(client.run(["q", "v"], x, session), x, "v")


def test_many_threads_share_a_session_and_each_gets_its_own_answer(serving: Any, world: Any) -> None:
    served = serving(credits=3)
    client, session = served.session()
    xs = [world.x(1 + i % 3, seed=i) for i in range(24)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda x: client.run("q", x, session), xs))
    assert all(world.right(result, x) for result, x in zip(results, xs, strict=True))
    assert served.computed == len(xs)


def test_sessions_are_computed_at_the_same_time(serving: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from helora_core.parties.session import Session

    served = serving()
    pairs = [served.session() for _ in range(2)]
    both, answer = threading.Barrier(2, timeout=120), Session.answer

    def waiting(self: Session, message: bytes) -> bytes:
        both.wait()
        return answer(self, message)

    monkeypatch.setattr(Session, "answer", waiting)
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(client.run, "q", world.x(1), session) for client, session in pairs]
        assert all(world.right(each.result(120), world.x(1)) for each in results)


def test_the_servers_error_is_raised_at_the_client(serving: Any, world: Any, refused: Any) -> None:
    served = serving()
    client, session = served.session()
    with refused(CorruptPayload):
        session.answer(b"nonsense")
    message = client.begin("q", world.x(1)).message()
    with refused(CorruptPayload):
        session.answer(message[:-1] + bytes([message[-1] ^ 1]))
    assert world.right(client.run("q", world.x(1), session), world.x(1))  # the session goes on


def test_what_is_too_long_is_refused_before_it_is_sent(serving: Any, world: Any, refused: Any) -> None:
    client, session = serving(message_bytes=1 << 16).session()
    with refused(LimitExceeded, "65536"):
        session.answer(client.begin("q", world.x(1)).message())


def test_several_adapters_stand_side_by_side(
    serving: Any, world: Any, other: Any, artifact: Path, tmp_path: Path
) -> None:
    other.lora().save(tmp_path / "other")
    served = serving({"one": artifact, "two": tmp_path / "other"})
    client, session = served.session()
    x = world.x(2)
    result = client.run(["one/q", "two/q"], x, session)
    assert world.right(result, x, "one/q")
    assert other.right(result, x, "two/q")
    remote = served.connect()
    assert [each.name for each in remote.document.adapters] == ["one", "two"]


def test_a_client_with_another_token_does_not_get_at_keys(serving: Any, world: Any, alice: Any, refused: Any) -> None:
    tokens, token = alice
    served = serving(tokens=tokens)
    with refused(AccessRefused):
        served.connect()
    with refused(AccessRefused):
        served.connect(token=token[:-1] + ("A" if token[-1] != "A" else "B"))
    client, session = served.session(token=token)
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    (place,) = list((served.service.state.keys).iterdir())
    assert "alice" not in place.name


def test_a_closed_session_answers_no_more(serving: Any, world: Any, until: Any) -> None:
    served = serving()
    client, session = served.session()
    session.close()
    session.close()
    with pytest.raises(ConnectionLost, match="closed"):
        client.delta("q", world.x(1), session)
    until(lambda: served.metric("helora_sessions") == 0)


def test_something_else_at_the_address_is_told_apart(serving: Any, refused: Any, world: Any) -> None:
    served = serving()
    port = served.host.port
    with refused(ConnectionLost, "nobody answers"):
        connect("http://127.0.0.1:1")
    with refused(CorruptPayload, "no server of helora"):
        connect(f"http://127.0.0.1:{port}/elsewhere")
    for wrong in ("ftp://127.0.0.1", "http://", f"http://user@127.0.0.1:{port}", "http://[", "http://127.0.0.1:99999"):
        with refused(InvalidInput):
            connect(wrong)
    with refused(InvalidInput, "without TLS"):
        connect("http://192.0.2.1")


def test_an_offer_that_changed_is_noticed(serving: Any, world: Any, other: Any, tmp_path: Path, refused: Any) -> None:
    world.lora().save(tmp_path / "served")
    served = serving({"": tmp_path / "served"})
    remote = served.connect()
    client = Client(remote.offer())
    other.lora().save(tmp_path / "new")
    (tmp_path / "served").rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "served")
    assert served.host.reload()
    with refused(VersionMismatch):
        remote.open(client.evaluation_keys())
    session = remote.open(Client(remote.offer()).evaluation_keys())
    session.close()
