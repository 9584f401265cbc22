"""Both ends of a link in one process: Δ, many clients, peers that misbehave, and ends of connections."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.errors import (
    ArtifactInvalid,
    ConnectionLost,
    CorruptPayload,
    ForeignCiphertext,
    InvalidInput,
    LimitExceeded,
    UnexpectedMessage,
    VersionMismatch,
)
from helora_core.parties.client import Client
from helora_transformers.link.framing import HELLO, Decoder, Frame, Kind, Welcome, encode
from helora_transformers.link.refusals import decode_refusal
from helora_transformers.link.remote import Remote, RemoteSession, connect


def opened(remote: Remote) -> tuple[Client, RemoteSession]:
    client = Client(remote.offer())
    return client, remote.open(client.evaluation_keys())


def right(world: Any, client: Client, session: Any, name: str, tokens: int, seed: int = 0) -> bool:
    """Whether Δ over the link is the adapter's, within the bound on its error."""
    x = world.x(tokens, seed)
    result = client.run(name, x, session)
    errors = np.abs(result.delta - world.modules[name].reference_delta(x)).max(axis=1)
    return bool((errors <= result.error_bounds[name]).all())


def heard(peer: socket.socket) -> list[Frame]:
    """All that a raw peer is told until the host hangs up."""
    decoder, frames = Decoder(dict.fromkeys(Kind, 1 << 20)), []
    while data := peer.recv(1 << 16):
        decoder.feed(data)
        while (frame := decoder.next()) is not None:
            frames.append(frame)
    return frames


class TestDelta:
    @pytest.mark.parametrize("backend", ["numpy", "rns", "tenseal"])
    def test_over_the_link_it_is_the_adapters(self, world: Any, hosting: Any, backend: str) -> None:
        hosted = hosting(world.lora(backend, q="rank_bsgs", v="cheetah_two_round").server())
        with hosted.connect() as remote:
            client, session = opened(remote)
            for name in client.modules:
                assert right(world, client, session, name, 3)
        ended = hosted.over.get(timeout=10)
        rounds = sum(len(plan.rounds) for plan in client.plans.values())
        assert (ended.opened, ended.messages, ended.refused, ended.why) == (True, rounds, 0, "closed by the client")
        assert ended.bytes_up > len(client.evaluation_keys())

    def test_correlations_are_prepared_and_used_over_it(self, world: Any, hosting: Any, tmp_path: Path) -> None:
        world.lora_ahead().save(tmp_path / "served")
        client, session = opened(hosting(world.load(tmp_path / "served", world.assume)).connect())
        preparation = client.prepare("q", 2)
        while not preparation.done:
            preparation.receive(session.answer(preparation.message()))
        assert right(world, client, session, "q", 2)

    def test_clients_and_threads_at_once_get_their_own(self, world: Any, hosting: Any) -> None:
        hosted = hosting()
        parties = [opened(hosted.connect()) for _ in range(3)]
        work = [(*parties[each % 3], "qv"[each % 2], 1 + each % 4, each) for each in range(12)]
        with ThreadPoolExecutor(6) as threads:
            assert all(threads.map(lambda each: right(world, *each), work))


def test_a_second_session_has_a_connection_of_its_own(world: Any, hosting: Any) -> None:
    hosted = hosting()
    remote = hosted.connect()
    client = Client(remote.offer())
    first, second = (remote.open(client.evaluation_keys()) for _ in range(2))
    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(lambda session: right(world, client, session, "q", 2), (first, second)))
    remote.close()
    for session in (first, second):
        with pytest.raises(ConnectionLost):
            session.answer(b"")
    assert {hosted.over.get(timeout=10).opened for _ in range(2)} == {True}


class TestRefusals:
    def test_they_are_the_servers_and_the_session_goes_on(self, world: Any, hosting: Any, refused: Any) -> None:
        hosted = hosting()
        remote, other = hosted.connect(), hosted.connect()
        client, keys = Client(remote.offer()), Client(other.offer()).evaluation_keys()
        with refused(UnexpectedMessage, "no session"):
            remote.ask(Kind.MESSAGE)
        with refused(CorruptPayload):
            remote.open(b"no keys")
        session = remote.open(client.evaluation_keys())
        with refused(UnexpectedMessage, "its session already"):
            remote.ask(Kind.OPEN, keys)
        with refused(CorruptPayload, "not a helora payload"):
            session.answer(b"no message")
        foreign, session_of_others = client.begin("q", world.x(1)).message(), other.open(keys)
        with refused(ForeignCiphertext):
            session_of_others.answer(foreign)
        assert right(world, client, session, "q", 1)
        for each in (remote, other):
            each.close()
        assert sorted(hosted.over.get(timeout=10).refused for _ in range(2)) == [1, 4]

    def test_the_servers_own_faults_name_no_file(self, world: Any, hosting: Any, refused: Any, tmp_path: Path) -> None:
        world.lora().save(tmp_path / "served")
        client, session = opened(hosting(world.load(tmp_path / "served")).connect())
        for each in (tmp_path / "served" / "modules").iterdir():
            each.unlink()
        with refused(ArtifactInvalid, "Server: it failed to answer."):
            client.delta("q", world.x(1), session)

    def test_what_is_too_long_is_refused_before_it_is_sent_and_before_it_is_read(
        self, world: Any, hosting: Any, artifact: Path, refused: Any
    ) -> None:
        hosted = hosting(world.load(artifact, message_bytes=1 << 20))
        client, session = opened(hosted.connect())
        with refused(LimitExceeded, "2097152 bytes"):
            session.answer(bytes(2 << 20))
        assert right(world, client, session, "q", 1)
        head = encode(Kind.MESSAGE, 7)[:9] + (1 << 40).to_bytes(8, "big")
        *_, last = heard(hosted.raw(HELLO + head))
        assert (last.kind, last.request) == (Kind.REFUSAL, 0)
        with refused(LimitExceeded, str(1 << 40)):
            raise decode_refusal(last.payload)


class TestOtherPeers:
    def test_garbage_and_silence_hurt_nobody_else(
        self, world: Any, hosting: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("helora_transformers.link.host.HELLO_S", 0.3)
        hosted = hosting()
        client, session = opened(hosted.connect())
        garbage = (b"GET / HTTP/1.1\r\n\r\n", HELLO[:4] + b"\x07", HELLO + bytes(range(255)), HELLO[:3], b"")
        peers = [hosted.raw(sent) for sent in garbage]
        hosted.raw(HELLO + encode(Kind.OPEN, 1, bytes(1000))[:500])  # and goes on never
        hosted.raw(HELLO + encode(Kind.OFFER, 1) * 9999)  # and reads nothing
        assert right(world, client, session, "v", 1)
        told = [type(decode_refusal(heard(peer)[-1].payload)) for peer in peers]
        assert told == [CorruptPayload, VersionMismatch, CorruptPayload, ConnectionLost, ConnectionLost]
        assert right(world, client, session, "v", 1)

    def test_more_connections_than_allowed_are_refused_until_one_ends(self, hosting: Any, refused: Any) -> None:
        hosted = hosting(connections=2)
        first = hosted.connect()
        hosted.raw()
        with refused(LimitExceeded, "2 connections"):
            hosted.connect()
        first.close()
        hosted.over.get(timeout=10)
        assert hosted.connect().offer()

    def test_servers_that_are_none_are_refused_and_silent_ones_given_up(self, refused: Any) -> None:
        welcome = HELLO + encode(Kind.WELCOME, 0, msgspec.msgpack.encode(Welcome(10, 10)))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"

            def meet(says: bytes, **options: Any) -> None:
                with ThreadPoolExecutor(1) as thread:
                    connecting = thread.submit(connect, address, **options)
                    peer, _ = listening.accept()
                    with peer:
                        peer.sendall(says)
                        with connecting.result(10) as remote:
                            remote.offer()

            with refused(CorruptPayload, "does not speak"):
                meet(b"SSH-2.0-x\r\n")
            with refused(CorruptPayload, "welcome"):
                meet(HELLO + encode(Kind.WELCOME, 0, b"\xc0"))
            with refused(ConnectionLost, "no welcome"):
                meet(b"", timeout=0.1)
            with refused(ConnectionLost, "silent for 0.1"):
                meet(welcome, timeout=0.1)
            for stray in (encode(Kind.REPLY, 99, b"x"), encode(Kind.WELCOME, 1), encode(Kind.REFUSAL, 1, b"x")):
                with refused(ConnectionLost, "has ended"):
                    meet(welcome + stray)
        with refused(ConnectionLost, "nobody answers", "helora link"):
            connect(address)


class TestTheEnd:
    def test_a_session_ends_with_its_connection(self, hosting: Any, world: Any, artifact: Path, refused: Any) -> None:
        hosted = hosting(world.load(artifact, sessions=1))
        first, second = hosted.connect(), hosted.connect()
        client, _ = opened(first)
        with refused(LimitExceeded, "1 sessions are open"):
            second.open(client.evaluation_keys())
        first.close()
        hosted.over.get(timeout=10)
        assert right(world, client, second.open(client.evaluation_keys()), "q", 1)

    def test_idle_connections_end_and_what_is_lost_stays_lost(self, hosting: Any, world: Any, refused: Any) -> None:
        hosted = hosting(idle_s=1.0)
        keys = (client := Client(hosted.host.offer)).evaluation_keys()
        session = (remote := hosted.connect()).open(keys)
        assert "1 seconds" in hosted.over.get(timeout=10).why
        for _ in range(2):
            with refused(ConnectionLost, "has ended"):
                client.delta("q", world.x(1), session)
        remote.close()
        with refused(ConnectionLost):
            remote.offer()
        assert hosted.connect().offer()

    def test_a_host_that_stops_says_so(self, hosting: Any, world: Any, refused: Any) -> None:
        hosted = hosting()
        client, session = opened(hosted.connect())
        hosted.host.stop()
        assert hosted.over.get(timeout=10).why == "Server: it is stopping."
        with refused(ConnectionLost, "it is stopping"):
            client.delta("q", world.x(1), session)


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        ["ws://host/x", "wss://host", "http://host:80", "host:80", "tcp://host", "tcp://:80", "tcp://host:99999", "",
         "tcp://[::1:80", "tcp://host:80/x", "tcp://me@host:80", "unix://relative", "unix:///", "unix:///folder/"],
    )  # fmt: skip
    def test_others_are_refused_with_those_that_are_possible(self, address: str, refused: Any) -> None:
        with refused(InvalidInput, repr(address), "tcp://", "unix://", "serving" if address[:2] == "ws" else ""):
            connect(address)

    @pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://[::]:0"])
    def test_a_host_stays_on_its_machine_unless_told_otherwise(self, hosting: Any, address: str, refused: Any) -> None:
        with refused(InvalidInput, "neither encrypts nor authenticates", "--insecure-plain-tcp"):
            hosting(address=address)
        if "[" not in address:  # a machine may be without IPv6
            assert hosting(address=address, anywhere=True).host.address.startswith("tcp://0.0.0.0:")

    def test_a_unix_socket_is_its_owners_and_replaces_only_sockets_of_the_dead(
        self, hosting: Callable[..., Any], tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind("s")  # and never listens
        hosted = hosting(address=f"unix://{path}")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert hosted.connect().offer()
        with refused(InvalidInput, "cannot be listened at"):
            hosting(address=f"unix://{path}")
        hosted.host.stop()
        assert not path.exists()
        path.write_text("mine")
        with refused(InvalidInput, "cannot be listened at"):
            hosting(address=f"unix://{path}")
        assert path.read_text() == "mine"
