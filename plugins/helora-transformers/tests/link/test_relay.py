"""The relay is as slow as it says, and changes nothing. That it is no slower depends on the machine."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from helora_core.errors import ConnectionLost
from helora_core.parties.client import Client
from helora_transformers.link.relay import Relay
from helora_transformers.link.remote import connect


def test_a_round_trip_takes_both_delays_and_the_answers_are_the_same(world: Any, hosting: Any) -> None:
    with Relay(hosting().host.address, delay_ms=30) as address, connect(address) as remote:
        client, x = Client(remote.offer()), world.x(2)
        session = remote.open(client.evaluation_keys())
        start = time.perf_counter()
        remote.offer()
        assert time.perf_counter() - start >= 0.06
        result = client.run("q", x, session)
    errors = np.abs(result.delta - world.modules["q"].reference_delta(x)).max(axis=1)
    assert (errors <= result.error_bounds["q"]).all()


def test_bytes_take_their_time_in_each_direction_and_keep_their_order() -> None:
    sent, rate = np.random.default_rng(0).bytes(100_000), 4e6

    def echo(listening: socket.socket) -> bytes:
        peer, _ = listening.accept()
        with peer:
            got = b"".join(iter(lambda: peer.recv(1 << 16), b""))
            peer.sendall(got)
        return got

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        echoed = thread.submit(echo, listening)
        with Relay(f"tcp://127.0.0.1:{listening.getsockname()[1]}", bits_per_second=rate) as address:
            host, _, port = address.removeprefix("tcp://").partition(":")
            with socket.create_connection((host, int(port)), timeout=10) as near:
                start = time.perf_counter()
                near.sendall(sent)
                near.shutdown(socket.SHUT_WR)
                back = b"".join(iter(lambda: near.recv(1 << 16), b""))
                assert time.perf_counter() - start >= 2 * 8 * len(sent) / rate  # the echo answers once it has all
        assert back == echoed.result(10) == sent


def test_ends_go_through_it(hosting: Any) -> None:
    hosted = hosting()
    with Relay(hosted.host.address, delay_ms=5) as address:
        with connect(address) as remote:
            assert remote.offer()
        assert hosted.over.get(timeout=10).why == "closed by the client"
        with connect(address) as remote:
            hosted.host.stop()
            with pytest.raises(ConnectionLost):
                remote.offer()
        with pytest.raises(ConnectionLost):  # the relay answers, and hangs up since nobody is behind it
            connect(address, timeout=5)
