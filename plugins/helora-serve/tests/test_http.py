"""What HTTP answers, and what it refuses before it reads."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
from typing import Any

import pytest

from helora_core.errors import LimitExceeded
from helora_core.parties.client import Client
from helora_serve.frames import PATH, SUBPROTOCOL


def ask(served: Any, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.host.port, timeout=120)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_offer_models_health_and_metrics(serving: Any, world: Any) -> None:
    served = serving()
    client, session = served.session()
    client.delta("q", world.x(2), session)
    response, body = ask(served, "GET", "/v1/offer")
    offer = json.loads(body)
    assert response.headers["etag"] == f'"{offer["version"]}"'
    assert (offer["mode"], offer["subprotocol"], offer["path"]) == ("client-key", SUBPROTOCOL, PATH)
    (adapter,) = offer["adapters"]
    assert [each["name"] for each in adapter["modules"]] == ["q", "v"]
    assert {"signature", "privacy", "proof", "base"}.isdisjoint(adapter)  # absent until there is something to state
    digests = {each["digest"] for each in offer["plans"]}
    assert all(set(each["plans"]) <= digests for each in adapter["modules"])
    assert all(each["rotation_steps"] == sorted(set(each["rotation_steps"])) for each in offer["plans"])
    assert Client(json.dumps(offer["delta"]).encode()).modules == ("q", "v")
    response, body = ask(served, "GET", "/v1/models")
    assert [each["id"] for each in json.loads(body)["data"]] == ["default"]
    response, body = ask(served, "GET", "/healthz")
    assert (response.status, body) == (200, b"ok\n")
    response, body = ask(served, "GET", "/metrics")
    assert b'helora_requests_total{code=""} 1.0' in body
    assert b"helora_event_loop_lag_seconds_bucket" in body
    assert response.headers["x-helora-mode"] == "client-key"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 404),
        ("POST", "/v1/offer", {}, 405),
        ("PUT", "/v1/keys/zz", {"content-length": "1"}, 400),
        ("PUT", "/v1/keys/" + "0" * 64, {"transfer-encoding": "chunked"}, 411),
        ("PUT", "/v1/keys/" + "0" * 64, {"content-length": "999999999999"}, 413),
        ("HEAD", "/v1/keys/" + "0" * 64, {}, 404),
        ("GET", PATH, {}, 405),
        ("POST", PATH, {"transfer-encoding": "chunked"}, 411),
        ("POST", PATH, {"content-length": "999999999999"}, 413),
    ],
)
def test_what_is_wrong_is_refused_before_its_body_is_read(
    serving: Any, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    served = serving()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection(("127.0.0.1", served.host.port), timeout=120) as peer:
        peer.sendall("\r\n".join([*lines, "", ""]).encode())  # and no body
        response = http.client.HTTPResponse(peer, method=method)
        response.begin()
        assert response.status == status
        body = response.read()
    if status in (400, 411, 413):
        assert json.loads(body)["error"]["hint"]


def test_keys_that_are_not_what_they_are_called_leave_nothing(serving: Any) -> None:
    served = serving()
    digest = hashlib.sha256(b"keys").hexdigest()
    response, body = ask(served, "PUT", f"/v1/keys/{digest}", b"other")
    assert (response.status, json.loads(body)["error"]["code"]) == (422, "corrupt-payload")
    assert ask(served, "HEAD", f"/v1/keys/{digest}")[0].status == 404
    assert served.service.keys.used_bytes == 0
    assert ask(served, "PUT", f"/v1/keys/{digest}", b"keys")[0].status == 201
    assert ask(served, "PUT", f"/v1/keys/{digest}", b"keys")[0].status == 200  # there already
    assert ask(served, "HEAD", f"/v1/keys/{digest}")[0].status == 200


def test_a_client_sends_its_keys_once(serving: Any, world: Any) -> None:
    served = serving()
    client, _ = served.session()
    keys = client.evaluation_keys()
    sessions = [served.connect().open(keys) for _ in range(3)]
    assert served.metric("helora_key_uploads_total") == 1
    assert all(world.right(client.run("q", world.x(1), each), world.x(1)) for each in sessions)


def test_sessions_over_the_limit_are_told_when_to_come_again(serving: Any, refused: Any, until: Any) -> None:
    served = serving(sessions=2)
    client, first = served.session()
    served.session()
    remote = served.connect()
    with refused(LimitExceeded, "2 sessions", "Try again in"):
        remote.open(client.evaluation_keys())
    first.close()
    until(lambda: len(served.service.sessions) == 1)
    remote.open(client.evaluation_keys())


def test_a_session_that_was_left_makes_room(serving: Any, world: Any, until: Any) -> None:
    served = serving(sessions=1)

    def leave(session: Any) -> None:
        session._wire.close()
        until(lambda: [each.socket for each in served.service.sessions.all] == [None])
        served.later(served.service.limits.hello_s + 1)

    client, left = served.session()
    client.delta("q", world.x(1), left)
    leave(left)
    second, session = served.session()
    assert world.right(second.run("q", world.x(1), session), world.x(1))
    leave(session)
    assert world.right(client.run("q", world.x(1), left), world.x(1))  # it comes back all the same


def test_sockets_over_the_limit_are_refused(serving: Any, refused: Any) -> None:
    served = serving(sockets=1)
    client, _ = served.session()
    with refused(LimitExceeded, "1 sockets"):
        served.connect().open(client.evaluation_keys())


def test_errors_have_the_insecure_header_too(serving: Any) -> None:
    served = serving(host={"host": "0.0.0.0", "insecure": True})
    for path in ("/v1/offer", "/nothing"):
        response, _ = ask(served, "GET", path)
        assert response.headers["x-helora-insecure"] == "no TLS, no authentication"
        assert response.headers["x-helora-mode"] == "client-key"
