"""Whatever is lost on the way, each row runs once and each answer comes once; what is wrong is refused by its name."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from helora_core.errors import (
    AccessRefused,
    ConnectionLost,
    CorruptPayload,
    InvalidInput,
    LimitExceeded,
    UnexpectedMessage,
)
from helora_serve.auth import Tokens, new_token
from helora_serve.client.remote import connector
from helora_serve.client.wire import WireBroken
from helora_serve.frames import encode as encode_any
from helora_serve.split import frames
from helora_serve.split.frames import Close, Forward, Goodbye, SplitOpen, SplitRefused, SplitResume
from helora_serve.split.resuming import Split
from helora_serve.split.socket import SplitSocket

PROMPT = [*b"u:hello", 256, *b"a:"]
MOST = 3
SOCKET_KINDS = ("KILL", "TRUNCATE", "DELAY", "DUPLICATE", "DROP")
POST_KINDS = ("LOSE_REQUEST", "CUT_REQUEST", "LOSE_RESPONSE", "CUT_RESPONSE", "REPEAT")


@pytest.mark.parametrize("kind", SOCKET_KINDS)
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_one_fault_at_any_frame(splitting: Any, relayed: Any, layers: Any, silence: Any, kind: str, up: bool) -> None:
    served, model = splitting()
    right = layers.greedy(PROMPT, MOST, "legal")

    def happens_to(frame: int, silent_s: float) -> bool:
        if kind == "DROP":
            silence(silent_s)
        before = layers.forwards
        relay = relayed(served.host.port, (kind, up, frame, 0))
        split = model(relay.url, adapter="legal", transport="websocket")
        assert split.generate(PROMPT, MOST) == right
        assert layers.forwards - before == MOST, f"{kind} of frame {frame}"
        return bool(relay.happened)

    for frame in range(MOST + 1):  # the first is open, or the welcome; a slow client may start anew before that frame
        assert any(happens_to(frame, silent_s) for silent_s in (0.2, 2, 20)), f"{kind} of frame {frame}"


@pytest.mark.parametrize("kind", POST_KINDS)
def test_one_fault_at_any_post(splitting: Any, posting: Any, layers: Any, kind: str) -> None:
    served, model = splitting()
    right = layers.greedy(PROMPT, MOST, "legal")
    for number in range(MOST + 1):  # the first opens the session
        before = layers.forwards
        relay = posting(served.host.port, {number: kind})
        assert model(relay.url, adapter="legal", transport="http").generate(PROMPT, MOST) == right
        assert relay.happened == [number]
        assert layers.forwards - before == MOST, f"{kind} of POST {number}"


def test_http_is_used_once_something_on_the_way_refuses_a_websocket(
    splitting: Any, posting: Any, layers: Any, caplog: Any
) -> None:
    served, model = splitting()
    relay = posting(served.host.port)
    with caplog.at_level(logging.WARNING, "helora.serve.client"):
        split = model(relay.url)
    assert "HTTP is used" in caplog.text
    assert split.generate(PROMPT, MOST) == layers.greedy(PROMPT, MOST, None)
    assert relay.upgrades == 1


def test_a_response_that_ends_without_the_answer_is_asked_for_again(
    splitting: Any, posting: Any, layers: Any, until: Any
) -> None:
    served, model = splitting(post_s=0.1)
    relay = posting(served.host.port)
    split = model(relay.url, transport="http")
    layers.hold.clear()
    with ThreadPoolExecutor(1) as thread:
        asking, begun = thread.submit(split.generate, PROMPT, MOST), relay.posts
        until(lambda: relay.posts > begun + 3)
        layers.hold.set()
        assert asking.result(120) == layers.greedy(PROMPT, MOST, None)
    assert (layers.forwards, split.reconnects) == (MOST, 0)


class Raw:
    """A socket of somebody who sends what he likes."""

    def __init__(self, url: str, first: Any, **how: Any) -> None:
        how = {"transport": "websocket", **how}
        self.wire = connector(url, **how).dial(120, path=frames.PATH, subprotocol=frames.SUBPROTOCOL, resuming=Split)
        self.welcome = self.asked(first)

    def asked(self, header: Any, payload: bytes = b"") -> Any:
        """The header that answers."""
        with suppress(WireBroken):
            self.wire.send(header if isinstance(header, bytes) else frames.encode(header, payload))
        came = self.wire.receive(120)
        assert came is not None
        return frames.decode_from_server(came)[0]


@pytest.fixture
def raw(splitting: Any, layers: Any) -> Any:
    """``raw(…)``: such a socket, of a session of its own unless another first frame is given."""
    made = []
    served, _ = splitting(split_tokens=8, sessions=2)

    def start(first: Any = None, **how: Any) -> Raw:
        opening = SplitOpen(base=layers.base.sha256, adapter=None, dtype=how.pop("dtype", "float32"))
        made.append(Raw(served.host.url, first or opening, **how))
        return made[-1]

    start.served = served  # type: ignore[attr-defined]
    yield start
    for each in made:
        each.wire.close()


ROWS = np.random.default_rng(3).normal(size=(4, 64))
FOUR = frames.payload_of(ROWS, "float32")


def forward(request: int, position: int = 0, tokens: int = 4) -> Forward:
    return Forward(request=request, position=position, tokens=tokens, last=True)


def test_what_is_wrong_with_rows_is_refused_and_the_session_goes_on(raw: Any, layers: Any) -> None:
    socket = raw()
    number = 0
    for header, payload, code, words in (
        ({"tokens": 3}, FOUR, "corrupt-payload", "1024 bytes; 3 x 64 numbers of float32 have 768"),
        ({}, frames.payload_of(ROWS, "float16"), "corrupt-payload", "512 bytes"),
        ({}, frames.payload_of(np.where(ROWS > 2, np.nan, ROWS), "float32"), "invalid-input", "finite"),
        ({}, frames.payload_of(np.where(ROWS > 2, np.inf, ROWS), "float32"), "invalid-input", "finite"),
        ({"tokens": 9}, frames.payload_of(np.ones((9, 64)), "float32"), "limit-exceeded", "9 rows"),
        ({"position": 1}, FOUR, "unexpected-message", "position 1 has come, and the cache ends at 0"),
    ):  # fmt: skip
        number += 1
        answer = socket.asked(forward(number, **header), payload)
        assert isinstance(answer, SplitRefused)
        assert (answer.request, answer.code, answer.position) == (number, code, 0)
        assert words in answer.message
        assert answer.hint
    assert (ROWS > 2).any()
    assert layers.forwards == 0
    assert socket.asked(forward(number + 1), FOUR).position == 4


def test_a_context_has_an_end(raw: Any) -> None:
    socket = raw()
    eight = frames.payload_of(np.ones((8, 64)), "float32")
    for number in range(16):
        assert socket.asked(forward(number + 1, 8 * number, 8), eight).position == 8 * (number + 1)
    answer = socket.asked(forward(17, 128), FOUR)
    assert (answer.code, answer.position) == ("limit-exceeded", 128)
    assert socket.asked(forward(18, 124), FOUR).position == 128  # a smaller position goes back


def test_numbers_make_requests_idempotent(raw: Any, layers: Any) -> None:
    socket = raw()
    first = socket.asked(forward(1), FOUR)
    assert socket.asked(forward(1), FOUR) == first  # the kept answer
    assert layers.forwards == 1
    again = raw(SplitResume(session=socket.welcome.session, token=socket.welcome.token, position=0))
    assert (again.welcome.requested, again.welcome.position, again.welcome.token) == (1, 4, b"")
    assert again.asked(forward(1), FOUR) == first  # it was lost on the way
    assert layers.forwards == 1
    said = socket.asked(forward(2, 4), FOUR)  # the socket before is over
    assert isinstance(said, Goodbye)
    assert said.resumable


@pytest.mark.parametrize(
    ("header", "payload", "words"),
    [(forward(3, 4), FOUR, "request 3 has come, and not 2"), (forward(1, 2), FOUR, "was another one"),
     (forward(1), FOUR[:-1] + b"x", "was another one"), (encode_any(Close(), b"x"), b"", "no payload"),
     (b"noise", b"", "header"), (SplitOpen(base="0" * 64, adapter=None, dtype="float32"), b"", "session already")],
)  # fmt: skip
def test_what_breaks_the_rules_ends_the_socket_and_not_the_session(
    raw: Any, header: Any, payload: bytes, words: str
) -> None:
    socket = raw()
    socket.asked(forward(1), FOUR)
    goodbye = socket.asked(header, payload)
    assert isinstance(goodbye, Goodbye)
    assert words in goodbye.message
    assert goodbye.resumable
    resumed = raw(SplitResume(session=socket.welcome.session, token=socket.welcome.token, position=4))
    assert resumed.asked(forward(2, 4), FOUR).position == 8


def test_a_session_is_its_clients_alone(raw: Any) -> None:
    socket = raw()
    for session, token in ((socket.welcome.session, bytes(32)), ("0" * 32, socket.welcome.token)):
        goodbye = raw(SplitResume(session=session, token=token, position=0)).welcome
        assert (goodbye.code, goodbye.resumable) == ("unexpected-message", False)
    assert socket.asked(forward(1), FOUR).position == 4


def test_a_client_without_a_token_gets_nothing(splitting: Any, alice: Any, refused: Any, layers: Any) -> None:
    tokens, token = alice
    served, model = splitting(tokens=tokens)
    with refused(AccessRefused):
        model()
    for transport in ("websocket", "http"):
        with pytest.raises(AccessRefused):
            Raw(served.host.url, SplitOpen(base="0" * 64, adapter=None, dtype="float32"), transport=transport)
    split = model(token=token, adapter="legal")
    assert split.generate(PROMPT, MOST) == layers.greedy(PROMPT, MOST, "legal")


def test_more_sessions_than_allowed_are_told_when_to_come_again(raw: Any, until: Any) -> None:
    first, _ = raw(), raw()
    goodbye = raw().welcome
    assert (goodbye.code, goodbye.retry_s) == ("limit-exceeded", 5.0)
    first.wire.close()
    split = raw.served.service.split
    until(lambda: None in [each.socket for each in split._sessions.values()])
    assert raw().welcome.code == "limit-exceeded"  # it may come back
    raw.served.later(split.limits.hello_s + 1)
    assert raw().welcome.session


def test_a_session_whose_client_left_before_its_welcome_has_no_socket(
    splitting: Any, layers: Any, leaving: Any
) -> None:
    served, _ = splitting()
    opening = SplitOpen(base=layers.base.sha256, adapter=None, dtype="float32")
    leaving.left_at(served, SplitSocket, frames.encode(opening), served.service.split)
    assert [each.socket for each in served.service.split._sessions.values()] == [None]


def test_a_client_may_not_take_all_sessions(splitting: Any, refused: Any) -> None:
    (alice, first), (bob, second) = new_token("alice"), new_token("bob")
    tokens = Tokens(dict(each.split(":") for each in (first, second)))
    _, model = splitting(tokens=tokens, sessions=4, client_sessions=2)
    assert all(model(token=alice, adapter="legal").generate(PROMPT, 1) for _ in range(2))
    with refused(LimitExceeded, "this client has 2 sessions"):
        model(token=alice, adapter="legal").generate(PROMPT, 1)
    assert model(token=bob, adapter="legal").generate(PROMPT, 1)


def test_a_cache_that_made_room_is_filled_again(splitting: Any, layers: Any) -> None:
    """Two conversations, and room for the cache of one."""
    served, model = splitting(split_cache_bytes=(len(PROMPT) + MOST) * layers.bytes_per_position)
    one, other = model(adapter="legal"), model(adapter="medical")
    context = list(PROMPT)
    for _ in range(2):
        for split, adapter in ((one, "legal"), (other, "medical")):
            assert split.generate(context, 1) == layers.greedy(context, 1, adapter)
            assert served.service.split.cache_bytes <= served.service.limits.split_cache_bytes
        context.append(5)
    assert [len(each) for each in layers.received] == [len(PROMPT)] * 2 + [len(PROMPT) + 1] * 2
    assert one.reconnects == 0


def test_caches_in_use_are_not_dropped(splitting: Any, layers: Any, until: Any) -> None:
    served, model = splitting(split_cache_bytes=len(PROMPT) * layers.bytes_per_position)
    one, other = model(), model()
    layers.hold.clear()
    asking = threading.Thread(target=one.logits, args=(PROMPT,))
    asking.start()
    until(lambda: served.service.split.cache_bytes)
    with pytest.raises(LimitExceeded, match=r"in use.*Try again in 1 s"):
        other.logits(PROMPT)
    layers.hold.set()
    asking.join()
    assert (other.logits(PROMPT) == model().logits(PROMPT)).all()


def test_a_forgotten_session_is_opened_anew(splitting: Any, layers: Any) -> None:
    served, model = splitting()
    split = model(adapter="legal")
    split.logits(PROMPT)
    served.later(served.service.limits.ttl_s + 1)
    assert not len(served.service.split)
    assert split.generate(PROMPT, MOST) == layers.greedy(PROMPT, MOST, "legal")


def test_layers_that_fail_leave_the_cache_as_it_was_before(raw: Any, layers: Any, caplog: Any) -> None:
    socket = raw()
    socket.asked(forward(1), FOUR)
    run, layers.forward = layers.forward, lambda *_: 1 / 0
    answer = socket.asked(forward(2, 2), FOUR)
    layers.forward = run
    assert isinstance(answer, SplitRefused)
    assert (answer.code, answer.position) == ("helora-error", 2)
    assert "zero" not in answer.message + caplog.text  # what a library says may quote what it was given
    assert socket.asked(forward(3, 2), FOUR).position == 6


def test_a_server_that_stops_says_so_and_finishes_what_it_has(splitting: Any, layers: Any, until: Any) -> None:
    served, model = splitting()
    split = model(adapter="legal")
    layers.hold.clear()
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(split.generate(PROMPT, 1)))
    asking.start()
    until(lambda: served.service.split.cache_bytes)
    served.host.stop()
    until(lambda: served.service.split.draining)
    layers.hold.set()
    asking.join()
    assert found == [layers.greedy(PROMPT, 1, "legal")]
    until(lambda: layers.closed)
    split._connector.timeout = 0.5  # not before: on a slow machine the server is silent for as long while it is there
    with pytest.raises(ConnectionLost):
        split.logits(PROMPT)


def test_errors_are_raised_as_what_they_are(splitting: Any, refused: Any) -> None:
    _, model = splitting(split_tokens=8)
    split = model()
    with refused(LimitExceeded, "9 rows"):
        split.forward(np.ones((9, 64)), 0)
    with refused(InvalidInput, "finite"):
        split.forward(np.full((1, 64), np.nan), 0)
    with refused(UnexpectedMessage, "position 5"):
        split.forward(np.ones((1, 64)), 5)
    with refused(CorruptPayload, "bytes"):
        split.forward(np.ones((1, 63)), 0)
    assert split.forward(np.ones((2, 64)), 0).shape == (2, 64)
