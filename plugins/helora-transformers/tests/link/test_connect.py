"""``connect`` takes addresses of both: links, and servers of helora-serve."""

from __future__ import annotations

from typing import Any

import pytest

from helora_core.errors import ConnectionLost, InvalidInput
from helora_core.parties.client import Client
from helora_core.parties.server import Server
from helora_transformers import connect


def test_a_link_is_reached(hosting: Any, world: Any) -> None:
    hosted = hosting()
    with connect(hosted.host.address, timeout=20) as remote:
        client = Client(remote.offer())
        assert client.delta("q", world.x(2), remote.open(client.evaluation_keys())).shape == (2, 20)


def test_a_server_is_reached_by_either_scheme(world: Any) -> None:
    pytest.importorskip("helora_serve")
    from helora_serve.catalogue import fixed
    from helora_serve.host import Host
    from helora_serve.service import Service

    load = fixed(Server(world.lora()))
    with Host(Service(lambda batches: load())) as host:
        for scheme in ("http", "ws"):
            with connect(f"{scheme}://127.0.0.1:{host.port}", timeout=20, token="ignored") as remote:
                client = Client(remote.offer())
                assert client.delta("q", world.x(2), remote.open(client.evaluation_keys())).shape == (2, 20)
                assert remote.address == f"http://127.0.0.1:{host.port}"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    with refused(InvalidInput, "takes no token"):
        connect("unix:///nowhere", token="x")
    with refused(ConnectionLost):
        connect("unix:///nowhere/at/all", timeout=1)
    monkeypatch.setattr("helora_transformers.connecting.find_spec", lambda name: None)
    with refused(InvalidInput, "helora-serve", "not installed"):
        connect("https://host")
