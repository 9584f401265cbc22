"""Where no WebSocket gets through, the same laws hold over HTTP: each request is answered once, and computed once."""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from helora_core import Client
from helora_core.errors import AccessRefused, LimitExceeded
from helora_serve import frames
from helora_serve.client.wire import HandshakeRefused
from helora_serve.frames import PATH

KINDS = ("LOSE_REQUEST", "CUT_REQUEST", "LOSE_RESPONSE", "CUT_RESPONSE", "REPEAT")


@pytest.mark.parametrize("kind", KINDS)
def test_one_fault_at_any_post(serving: Any, posting: Any, world: Any, kind: str) -> None:
    served = serving()
    for number in range(3):  # the first opens the session
        before = served.computed
        relay = posting(served.host.port, {number: kind})
        client, session = served.session(relay.url, transport="http")
        for seed in range(3):
            assert world.right(client.run("q", world.x(1, seed), session), world.x(1, seed))
        assert relay.happened == [number]
        assert served.computed - before == 3, f"{kind} of POST {number}"
        session.close()


def test_requests_of_many_threads_share_posts(serving: Any, posting: Any, world: Any) -> None:
    served = serving()
    relay = posting(served.host.port, {2: "LOSE_RESPONSE", 3: "CUT_REQUEST", 5: "CUT_RESPONSE", 6: "LOSE_REQUEST"})
    client, session = served.session(relay.url, transport="http")
    xs = [world.x(1, seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(partial(client.run, "q", link=session), xs))
    assert all(world.right(result, x) for result, x in zip(results, xs, strict=True))
    assert served.computed == len(xs)
    assert served.metric("helora_sessions_opened_total") == 1


def test_http_is_used_once_something_on_the_way_refuses_a_websocket(
    serving: Any, posting: Any, world: Any, caplog: Any
) -> None:
    served = serving()
    relay = posting(served.host.port)
    with caplog.at_level(logging.WARNING, "helora.serve.client"):
        remote = served.connect(relay.url)
        assert remote.transport == "auto"
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
    assert remote.transport == "http"
    assert "HTTP is used" in caplog.text
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    session._break(session._wire, "for a try")
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    assert relay.upgrades == 1
    with pytest.raises(HandshakeRefused, match="no WebSocket"):
        served.session(relay.url, transport="websocket")


def test_a_session_ends_by_a_post_too(serving: Any, world: Any) -> None:
    served = serving()
    client, session = served.session(transport="http")
    client.delta("q", world.x(1), session)
    assert len(served.service.sessions) == 1
    session.close()
    assert len(served.service.sessions) == 0


def test_a_response_that_ends_without_the_answer_is_asked_for_again(serving: Any, posting: Any, world: Any) -> None:
    """The server waits a shorter time than the answer takes."""
    served = serving(post_s=0.05)
    relay, submit = posting(served.host.port), served.service.worker.submit

    async def slowly(*arguments: Any) -> bytes:
        begun = relay.posts
        while relay.posts < begun + 3:
            await asyncio.sleep(0.005)
        return bytes(await submit(*arguments))

    served.service.worker.submit = slowly
    client, session = served.session(relay.url, transport="http")
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    assert (served.computed, session.reconnects) == (1, 0)


def test_posts_are_held_to_what_sockets_are(serving: Any, alice: Any, refused: Any, world: Any) -> None:
    tokens, token = alice
    served = serving(tokens=tokens, sessions=1)
    with refused(AccessRefused):
        served.session(transport="http")
    client, session = served.session(transport="http", token=token)
    with refused(LimitExceeded, "1 session,"):
        served.connect(transport="http", token=token).open(client.evaluation_keys())
    with refused(LimitExceeded, "bytes for the server"):
        session.answer(bytes(session.welcome.message_bytes + 1))
    assert world.right(client.run("q", world.x(1), session), world.x(1))


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0", struct.pack(">I", 5) + b"1234", struct.pack(">I", 1 << 31), struct.pack(">I", 4) + b"1234",
     struct.pack(">I", 14) + frames.encode(frames.Close())],
)  # fmt: skip
def test_a_body_that_is_no_frames_gets_a_goodbye_that_says_why(serving: Any, body: bytes) -> None:
    served = serving(hello_s=1e4, stall_s=1e4, post_s=1e4)  # nothing of it is waited for
    connection = http.client.HTTPConnection("127.0.0.1", served.host.port, timeout=120)
    connection.request("POST", PATH, body)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    assert (response.status, response.headers["x-helora-mode"]) == (200, "client-key")
    header, _ = frames.decode_from_server(data[4:])
    assert isinstance(header, frames.Goodbye)
    assert header.hint


def test_small_writes_are_not_delayed(serving: Any) -> None:
    """A response is several of them: with Nagle's algorithm each would wait 40 ms for the one before to be taken."""
    served = serving()
    with socket.create_connection(("127.0.0.1", served.host.port)) as peer:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert peer.recv(1 << 12)
        connections = list(served.host._uvicorn.server_state.connections)
        sockets = [each.transport.get_extra_info("socket") for each in connections]
        assert sockets
        assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets)


def test_a_length_beside_chunks_is_no_length(serving: Any) -> None:
    """It may say anything: what is read is the chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", serving().host.port, timeout=60)
    connection.putrequest("POST", PATH)
    for name, value in (("transfer-encoding", "chunked"), ("content-length", "1")):
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"0\r\n\r\n")
    assert connection.getresponse().status in (400, 411)  # by the parser, or by the server
    connection.close()
