"""A client's session: what is lost on the way leaves time to try again, and what is closed leaves nothing behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helora_core.errors import ConnectionLost
from helora_serve.client.session import RemoteSession
from helora_serve.frames import Open, Welcome, decode_from_client, encode

TIMEOUT_S = 60.0


class Quiet:
    """A carrier to a server that welcomes or is silent. It does not wait, and notes how long it would have."""

    def __init__(self, welcome: bytes | None) -> None:
        self.welcome, self.waited, self.sent = welcome, list[float](), list[bytes]()

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def receive(self, seconds: float) -> bytes | None:
        self.waited.append(seconds)
        return self.welcome

    def close(self) -> None:
        """Nothing is open."""


def test_a_welcome_that_is_lost_leaves_time_for_another_socket() -> None:
    welcome = Welcome(
        session="0" * 32, token=bytes(32), requested=0, credits=1, credit_bytes=1, message_bytes=1, window_bytes=1,
        ttl_s=1, mode="client-key",
    )  # fmt: skip
    carriers = [Quiet(None), Quiet(None), Quiet(encode(welcome))]
    coming, opening = iter(carriers), Open(version="0" * 64, keys="0" * 64)
    session = RemoteSession(lambda seconds: next(coming), lambda: opening, "nowhere", TIMEOUT_S)
    assert session.reconnects == 1
    for each in carriers:
        assert [decode_from_client(frame)[0] for frame in each.sent] == [opening]
        assert each.waited[0] <= TIMEOUT_S / 2


def test_a_session_that_is_closed_while_it_reconnects_ends_at_the_server_too(
    serving: Any, world: Any, until: Any
) -> None:
    served = serving()
    client, session = served.session()
    dial, connected, closed = session._dial, threading.Event(), threading.Event()

    def late(seconds: float) -> Any:
        wire = dial(seconds)
        connected.set()
        assert closed.wait(120)
        return wire

    session._dial = late
    session._break(session._wire, "for a try")
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(client.delta, "q", world.x(1), session)
        assert connected.wait(120)
        session.close()
        closed.set()
        with pytest.raises(ConnectionLost, match="closed"):
            asking.result(120)
    until(lambda: not len(served.service.sessions))
    assert session._wire is None
