"""Numbers of requests and answers: both sides, with sockets that end anywhere, as a state machine."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helora_core.errors import CorruptPayload, LimitExceeded, UnexpectedMessage
from helora_serve.exchange import Exchange, Incoming
from helora_serve.frames import Answer
from helora_serve.limits import Limits

LIMITS = Limits(credits=4, credit_bytes=100, window_bytes=2000)


class Sockets(RuleBasedStateMachine):
    """A client that keeps to its credit, a server that answers in turn, and sockets that lose what is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.server, self.client = Exchange(LIMITS), Incoming()
        self.asked: dict[int, int] = {}  # without an answer at the client, with their sizes
        self.number = 0
        self.up: deque[tuple[int, int]] = deque()
        self.down: deque[tuple[int, int]] = deque()
        self.todo: deque[int] = deque()
        self.computed: list[int] = []
        self.delivered: list[int] = []
        self.sent = 0

    @precondition(lambda self: len(self.asked) < LIMITS.credits)
    @rule(size=st.integers(1, 40))
    def asks(self, size: int) -> None:
        if self.asked and sum(self.asked.values()) + size > LIMITS.credit_bytes:
            return
        self.number += 1
        self.asked[self.number] = size
        self.up.append((self.number, size))

    @precondition(lambda self: self.up)
    @rule()
    def request_comes(self) -> None:
        request, size = self.up.popleft()
        if self.server.ask(request, size, self.client.received if not self.down else self.server.acknowledged):
            self.todo.append(request)

    @precondition(lambda self: self.todo and self.server.has_room)
    @rule(size=st.integers(0, 900))
    def is_computed(self, size: int) -> None:
        request = self.todo.popleft()
        self.computed.append(request)
        self.server.answer(Answer(number=self.server.answered + 1, request=request), bytes(size))

    @rule()
    def is_sent(self) -> None:
        for kept in self.server.after(self.sent):
            self.sent = kept.header.number
            self.down.append((kept.header.number, kept.header.request))
            break

    @precondition(lambda self: self.down)
    @rule()
    def answer_comes(self) -> None:
        number, request = self.down.popleft()
        if self.client.take(number):
            self.delivered.append(request)
            del self.asked[request]

    @rule()
    def acknowledges(self) -> None:
        self.server.acknowledge(self.client.received)

    @rule()
    def the_socket_ends_and_another_one_resumes(self) -> None:
        self.up.clear()
        self.down.clear()
        self.server.acknowledge(self.client.received)
        self.sent = self.client.received
        self.up.extend((request, size) for request, size in self.asked.items() if request > self.server.requested)

    @invariant()
    def nothing_is_computed_or_delivered_twice_and_nothing_acknowledged_is_lost(self) -> None:
        assert self.computed == list(range(1, len(self.computed) + 1))
        assert self.delivered == self.computed[: len(self.delivered)]
        assert self.server.acknowledged <= len(self.delivered)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.server.in_flight <= LIMITS.credits
        assert self.server.in_flight_bytes <= LIMITS.credit_bytes
        assert self.server.window_bytes <= LIMITS.window_bytes + 900 + 512

    def teardown(self) -> None:
        """What is left is answered, once the socket holds."""
        self.the_socket_ends_and_another_one_resumes()
        while self.asked:
            while self.up:
                self.request_comes()
            while self.todo and self.server.has_room:
                self.is_computed(1)
            self.is_sent()
            while self.down:
                self.answer_comes()
            self.server.acknowledge(self.client.received)
        assert self.delivered == list(range(1, self.number + 1))


Sockets.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_socket_may_end_anywhere = Sockets.TestCase


def test_what_breaks_the_rules_is_refused_and_changes_nothing() -> None:
    exchange = Exchange(LIMITS)
    for request, size, received, kind in (
        (2, 1, 0, UnexpectedMessage),  # the first is missing
        (1, 1, 1, UnexpectedMessage),  # no answer was made
    ):
        with pytest.raises(kind):
            exchange.ask(request, size, received)
    assert exchange.ask(1, 1000, 0)  # a single one may be larger than the credit
    with pytest.raises(LimitExceeded):
        exchange.ask(2, 1, 0)
    assert (exchange.requested, exchange.in_flight) == (1, 1)
    exchange.answer(Answer(number=1, request=1), b"x")
    for request in range(2, 2 + LIMITS.credits):
        assert exchange.ask(request, 1, 1)
    with pytest.raises(LimitExceeded):
        exchange.ask(2 + LIMITS.credits, 1, 1)


@given(st.lists(st.integers(1, 8), max_size=30))
def test_an_answer_is_new_once(numbers: list[int]) -> None:
    incoming, new = Incoming(), []
    for number in numbers:
        try:
            if incoming.take(number):
                new.append(number)
        except CorruptPayload:
            assert number > incoming.received + 1
    assert new == list(range(1, len(new) + 1))


def test_the_limits_state_what_a_session_may_hold() -> None:
    limits: Any = Limits()
    held = limits.credit_bytes + limits.window_bytes
    assert held + 2 * limits.message_bytes + limits.answer_bytes == limits.session_bytes
