"""Whoever leaves at any time leaves a session that is held by no socket, so that it makes room or is taken up again."""

from __future__ import annotations

from typing import Any

from helora_core.parties.client import Client
from helora_serve.frames import Open, encode
from helora_serve.socket import DeltaSocket


def test_a_session_whose_client_left_before_its_welcome_has_no_socket(serving: Any, leaving: Any) -> None:
    served = serving()
    remote = served.connect()
    keys = Client(remote.offer()).evaluation_keys()
    session = remote.open(keys)
    opening: Open = session._opening()
    leaving.left_at(served, DeltaSocket, encode(opening), served.service.sessions)
    sockets = {each.name: each.socket for each in served.service.sessions.all}
    assert len(sockets) == 2
    assert sockets.pop(session._name) is not None
    assert list(sockets.values()) == [None]
