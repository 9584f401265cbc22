"""Each limit of a socket, exhausted by a client that breaks the rules: it is told why, and the session lives."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from helora_core.errors import CorruptPayload, LimitExceeded
from helora_serve.client.wire import Wire, WireBroken
from helora_serve.frames import PATH, Ack, Ask, Goodbye, Resume, Welcome, decode_from_server, encode
from helora_serve.reading import MOST_SHORT, EagerProtocol

LONG_S = 120.0


class Raw:
    """A socket of somebody who sends what he likes."""

    def __init__(self, remote: Any, first: Any, stack: ExitStack) -> None:
        self.wire: Wire = remote._connector.dial(LONG_S)
        stack.callback(self.wire.close)
        self._remote, self._stack = remote, stack
        if first is not None:
            self.send(first)
        self.welcome = self.next()

    def again(self, first: Any) -> Raw:
        """Another socket."""
        return Raw(self._remote, first, self._stack)

    def send(self, header: Any, payload: bytes = b"") -> None:
        """Send a frame, or bytes, if the socket still takes them."""
        with suppress(WireBroken):
            self.wire.send(header if isinstance(header, bytes) else encode(header, payload))

    def next(self) -> Any:
        """The next header."""
        frame = self.wire.receive(LONG_S)
        assert frame is not None, "nothing came"
        return decode_from_server(frame)[0]

    def end(self) -> WireBroken:
        """How the socket ends."""
        try:
            while self.wire.receive(LONG_S) is not None:
                pass
        except WireBroken as error:
            return error
        raise AssertionError("the socket did not end")

    def goodbye(self) -> Goodbye:
        """The server's last frame, after which the socket ends."""
        header = self.next()
        while not isinstance(header, Goodbye):
            header = self.next()
        self.end()
        return header


def protocol_of(served: Any, peer: Raw) -> EagerProtocol:
    """The server's end of a socket."""
    (protocol,) = [
        each for each in served.host._uvicorn.server_state.connections
        if getattr(each, "queue", None) is not None and each.transport.get_extra_info("peername")[1]
        == peer.wire._socket.getsockname()[1]
    ]  # fmt: skip
    assert isinstance(protocol, EagerProtocol)
    return protocol


@pytest.fixture
def raw(serving: Any) -> Iterator[Any]:
    """A server, a client with its session, and a socket of its own in another session."""
    with ExitStack() as stack:

        def start(first: Any = "open", **limits: Any) -> tuple[Any, Any, Any, Raw]:
            served = serving(**limits)
            client, session = served.session()
            return (
                served,
                client,
                session,
                Raw(served.connect(), session._opening() if first == "open" else first, stack),
            )

        yield start


def test_requests_beyond_the_credit_end_the_socket_and_not_the_session(raw: Any, world: Any) -> None:
    _, client, session, peer = raw(credits=2)
    message = client.begin("q", world.x(64)).message()
    for number in range(1, 9):
        peer.send(Ask(request=number, received=0), message)
    goodbye = peer.goodbye()
    assert (goodbye.code, goodbye.resumable) == ("limit-exceeded", True)
    welcome = peer.welcome
    again = peer.again(Resume(session=welcome.session, token=welcome.token, received=0))
    assert isinstance(again.welcome, Welcome)
    assert 2 <= again.welcome.requested < 8
    assert world.right(client.run("q", world.x(1), session), world.x(1))


def test_a_message_that_is_too_long_closes_by_1009(raw: Any, world: Any) -> None:
    _, client, session, peer = raw(message_bytes=1 << 20)
    peer.wire._socket.sendall(b"\x82\xff" + (2 << 20).to_bytes(8, "big") + bytes(4))  # a head, and nothing behind it
    assert "1009" in str(peer.end())
    assert world.right(client.run("q", world.x(1), session), world.x(1))


def test_a_socket_that_says_nothing_is_told_to_go(serving: Any) -> None:
    with ExitStack() as stack:
        peer = Raw(serving(hello_s=0.2).connect(), None, stack)
    assert (peer.welcome.code, peer.welcome.resumable) == ("invalid-input", False)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Ask(request=3, received=0), "unexpected-message"),
        (Ask(request=1, received=9), "unexpected-message"),
        (Ack(received=1), "unexpected-message"),
        (Resume(session="0" * 32, token=bytes(32), received=0), "unexpected-message"),
        (b"\x00", "corrupt-payload"),
        (b"\x00\x01\xc0", "corrupt-payload"),
    ],
)
def test_what_breaks_the_rules_ends_the_socket(raw: Any, world: Any, frame: Any, code: str) -> None:
    served, client, _, peer = raw()
    payload = client.begin("q", world.x(1)).message() if isinstance(frame, Ask) else b""
    peer.send(frame, payload)
    goodbye = peer.goodbye()
    assert (goodbye.code, goodbye.resumable) == (code, True)
    assert served.computed == 0


def test_a_token_is_needed_to_resume(raw: Any) -> None:
    _, _, _, peer = raw()
    answer = peer.again(Resume(session=peer.welcome.session, token=bytes(32), received=0)).welcome
    assert (type(answer), answer.code) == (Goodbye, "unexpected-message")


def test_text_is_refused(raw: Any) -> None:
    _, _, _, peer = raw()
    with peer.wire._state:
        peer.wire._protocol.send_text(b"hello")
        peer.wire._flush()
    assert peer.goodbye().code == "corrupt-payload"


def test_another_subprotocol_is_refused(serving: Any) -> None:
    served = serving()
    connection = http.client.HTTPConnection("127.0.0.1", served.host.port, timeout=LONG_S)
    headers = {
        "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-protocol": "helora.delta.v9",
    }  # fmt: skip
    connection.request("GET", PATH, headers=headers)
    response = connection.getresponse()
    assert (response.status, b"helora.delta.v1" in response.read()) == (400, True)
    connection.close()


def test_many_short_messages_are_read_ahead_and_then_held_back(raw: Any, world: Any) -> None:
    served, client, _, peer = raw(credits=64)
    protocol = protocol_of(served, peer)
    loop, most, paused = served.host._loop, [0], [False]

    def look() -> None:
        most[0] = max(most[0], protocol.queue.qsize())
        paused[0] |= protocol.read_paused

    def feed() -> None:  # all at once, as if they had come in one piece
        frame = encode(Ack(received=0))
        for _ in range(MOST_SHORT):
            protocol.handle_bytes(Frame(Opcode.BINARY, frame))
            look()
        assert (most[0], paused[0]) == (MOST_SHORT, False)
        protocol.handle_bytes(Frame(Opcode.BINARY, frame))
        look()

    asyncio.run_coroutine_threadsafe(_called(feed), loop).result()
    assert paused[0]
    message = client.begin("q", world.x(1)).message()
    peer.send(Ask(request=1, received=0), message)  # it goes on reading
    assert peer.next().number == 1


async def _called(what: Any) -> None:
    what()


def test_too_many_tokens_are_refused_and_the_session_goes_on(serving: Any, world: Any, refused: Any) -> None:
    client, session = serving(most_tokens=4).session()
    with refused(LimitExceeded, "1 to 4"):
        client.delta("q", world.x(5), session)
    assert world.right(client.run("q", world.x(4), session), world.x(4))


@contextmanager
def half_an_upload(served: Any, until: Any) -> Iterator[None]:
    """As many uploads as may be come in, and no more of them comes."""
    slow = http.client.HTTPConnection("127.0.0.1", served.host.port, timeout=LONG_S)
    slow.putrequest("PUT", "/v1/keys/" + "0" * 64)
    slow.putheader("content-length", "100")
    slow.endheaders()
    slow.send(b"x")
    until(lambda: served.service.keys.used_bytes)
    yield
    slow.close()


def test_an_upload_too_many_is_refused(serving: Any, until: Any) -> None:
    served = serving(uploads=1, stall_s=600)
    ask = served.connect()._connector.http.ask
    with half_an_upload(served, until), pytest.raises(LimitExceeded):
        ask("PUT", "/v1/keys/" + "1" * 64, b"keys")
    until(lambda: not served.service.keys.used_bytes)
    with pytest.raises(CorruptPayload):  # the upload that ended does not count
        ask("PUT", "/v1/keys/" + "1" * 64, b"keys")


def test_keys_that_are_refused_for_now_are_sent_again(serving: Any, world: Any, until: Any) -> None:
    served = serving(uploads=1, stall_s=600)
    with ThreadPoolExecutor(1) as threads:
        with half_an_upload(served, until):
            opening = threads.submit(served.session)
            until(lambda: served.metric("helora_http_refusals_total", code="limit-exceeded"))
        client, session = opening.result(LONG_S)
    assert world.right(client.run("q", world.x(1), session), world.x(1))


def test_a_client_that_takes_nothing_loses_its_socket_and_not_its_session(raw: Any, world: Any, until: Any) -> None:
    served, client, _, peer = raw(stall_s=1)
    message = client.begin("q", world.x(1)).message()
    (one,) = [each for each in served.service.sessions.all if each.name == peer.welcome.session]
    number = 0
    while one.socket is not None and number < 400:
        number += 1
        peer.send(Ask(request=number, received=0), message)
        until(lambda: one.exchange.answered == number or one.socket is None)  # noqa: B023 - called here only
    assert one.socket is None
    until(lambda: len(served.host._uvicorn.server_state.connections) == 1)  # what was left for it is thrown away
    again = peer.again(Resume(session=peer.welcome.session, token=peer.welcome.token, received=0))
    assert isinstance(again.welcome, Welcome)
    assert again.next().number == 1


def test_a_socket_that_was_taken_over_may_not_stand_still_either(raw: Any, world: Any, until: Any) -> None:
    served, client, _, peer = raw(stall_s=5)
    message = client.begin("q", world.x(1)).message()
    (one,) = [each for each in served.service.sessions.all if each.name == peer.welcome.session]
    number, stuck = 0, one.socket
    while one.exchange.answered - stuck.sent < 3:  # answers wait behind one that is not taken
        number += 1
        peer.send(Ask(request=number, received=0), message)
        until(lambda: one.exchange.answered == number)  # noqa: B023 - called here only
    left = protocol_of(served, peer)
    again = peer.again(Resume(session=peer.welcome.session, token=peer.welcome.token, received=0))
    assert isinstance(again.welcome, Welcome)
    until(lambda: left not in served.host._uvicorn.server_state.connections)


def test_a_session_whose_window_is_full_ends_after_its_time(raw: Any, world: Any, until: Any) -> None:
    served, client, _, peer = raw(window_bytes=1 << 20)
    message, sessions = client.begin("q", world.x(1)).message(), served.service.sessions
    (one,) = [each for each in sessions.all if each.name == peer.welcome.session]
    number = 0
    while one.exchange.has_room:
        number += 1
        peer.send(Ask(request=number, received=0), message)
        until(lambda: one.exchange.answered == number)  # noqa: B023 - called here only
    peer.send(Ask(request=number + 1, received=0), message)
    until(lambda: one.busy)
    peer.wire.close()
    until(lambda: one.socket is None)
    served.later(served.service.limits.ttl_s + 1)
    assert one not in sessions.all


def test_pongs_that_nobody_reads_do_not_pile_up(raw: Any, until: Any) -> None:
    served, _, _, peer = raw()
    protocol, wire = protocol_of(served, peer), peer.wire._socket
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ping = b"\x89\xfd" + bytes(4 + 125)
    for _ in range(60):
        wire.sendall(ping * 1000)
    wire.sendall(b"\x02\x81" + bytes(5))  # the beginning of a message, which comes after them
    until(lambda: protocol.frames)
    assert protocol.transport.get_write_buffer_size() < 1 << 20


def test_small_fragments_take_no_more_than_their_bytes(raw: Any, until: Any) -> None:
    served, _, _, peer = raw()
    protocol, many = protocol_of(served, peer), 20_000
    peer.wire._socket.sendall(b"\x02\x81" + bytes(5) + (b"\x00\x81" + bytes(5)) * many)
    until(lambda: sum(map(len, protocol.frames)) == many + 1)
    assert len(protocol.frames) == 1
