"""Requests against a network that loses, repeats, reorders, truncates and mixes up whatever is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from helora_core.adapter.synthetic import synthetic_activations
from helora_core.errors import CorruptPayload, ForeignCiphertext, HeloraError, LimitExceeded, UnexpectedMessage
from helora_core.host.manager import get_manager
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.limits import ServerLimits
from helora_core.parties.request import Request
from helora_core.parties.server import Server
from helora_core.parties.session import Session
from tests.conftest import examples
from tests.parties.conftest import SHAPE, compiled

MODULES = {name: compiled(name, packing, seed) for seed, (name, packing) in enumerate(
    {"q": "rank_bsgs", "v": "rank_bsgs", "two": "cheetah_two_round"}.items()
)}  # fmt: skip
LORA = CompiledLoRA(tuple(MODULES.values()), get_manager().load_backend("numpy"), secure=False)
LIMITS = ServerLimits(requests=4, kept_bytes=1_500_000, idle_s=100.0)
CLIENTS = [LORA.client(LORA.server().offer()) for _ in range(2)]
"""Keys take long to make; the sessions that are opened with them do not."""
KEYS = [client.evaluation_keys() for client in CLIENTS]


@dataclass
class Sent:
    """A request and what passed: each message, and the answer to it once there is one."""

    who: int
    request: Request
    names: tuple[str, ...]
    x: Any
    messages: list[bytes] = field(default_factory=list)
    answers: dict[bytes, bytes] = field(default_factory=dict)


class Network(RuleBasedStateMachine):
    """Two clients, a session each, and a network that does what it likes."""

    requests: Bundle[Sent] = Bundle("requests")

    @initialize()
    def open(self) -> None:
        self.now = 0.0
        server = Server(dict(MODULES), LORA.backend, limits=LIMITS, clock=lambda: self.now)
        self.sessions = [server.open(keys) for keys in KEYS]
        self.known: list[Sent] = []

    @rule(
        target=requests,
        who=st.integers(0, 1),
        names=st.sampled_from([("q",), ("two",), ("q", "v")]),
        tokens=st.integers(1, 3),
    )
    def begin(self, who: int, names: tuple[str, ...], tokens: int) -> Sent:
        x = synthetic_activations(SHAPE, tokens, seed=len(self.known))
        sent = Sent(who, CLIENTS[who].begin(names, x), names, x)
        sent.messages.append(sent.request.message())
        self.known.append(sent)
        return sent

    @rule(sent=requests)
    def deliver(self, sent: Sent) -> None:
        """The newest message arrives; perhaps for the second time."""
        message = sent.messages[-1]
        try:
            answer = self.sessions[sent.who].answer(message)
        except LimitExceeded:
            assert self.in_flight(sent.who) >= LIMITS.requests
        except UnexpectedMessage:
            assert len(sent.messages) > 1 or sent.request.done, "a first message is always in time"
        else:
            again = self.sessions[sent.who].answer(message)
            assert again == answer, "a message that comes again is answered with the same bytes"
            sent.answers[message] = answer

    @rule(sent=requests)
    def hand_over(self, sent: Sent) -> None:
        """The answer arrives at the client; what it sends next is there."""
        answer = sent.answers.get(sent.messages[-1])
        if answer is None or sent.request.done:
            return
        sent.request.receive(answer)
        if not sent.request.done:
            sent.messages.append(sent.request.message())

    @rule(sent=requests)
    def repeat_the_first_message(self, sent: Sent) -> None:
        """Late, when the request is in another round, over, or forgotten: then it is a new one, with other masks."""
        if len(sent.messages) == 1:
            return
        before = self.state(sent.who)
        try:
            self.sessions[sent.who].answer(sent.messages[0])
        except (UnexpectedMessage, LimitExceeded):
            assert self.state(sent.who) == before

    @rule(sent=requests, other=requests)
    def mix_up_answers(self, sent: Sent, other: Sent) -> None:
        for answer in list(other.answers.values()):
            if answer == sent.answers.get(sent.messages[-1]):
                continue
            done, message = sent.request.done, sent.messages[-1]
            with pytest.raises((UnexpectedMessage, ForeignCiphertext)):
                sent.request.receive(answer)
            assert sent.request.done == done
            assert done or sent.request.message() == message

    @rule(sent=requests)
    def mix_up_sessions(self, sent: Sent) -> None:
        before = self.state(1 - sent.who)
        with pytest.raises(ForeignCiphertext):
            self.sessions[1 - sent.who].answer(sent.messages[-1])
        assert self.state(1 - sent.who) == before

    @rule(sent=requests, data=st.data())
    def damage(self, sent: Sent, data: st.DataObject) -> None:
        message = sent.messages[-1]
        if data.draw(st.booleans(), "truncate"):
            damaged = message[: data.draw(st.integers(0, len(message) - 1), "length")]
        else:
            place = data.draw(st.integers(0, len(message) - 1), "place")
            damaged = message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]
        before = self.state(sent.who)
        with pytest.raises(HeloraError):
            self.sessions[sent.who].answer(damaged)
        assert self.state(sent.who) == before
        answer = sent.answers.get(message)
        if answer is not None and not sent.request.done:
            with pytest.raises(CorruptPayload):
                sent.request.receive(answer[:-1])
            assert sent.request.message() == message

    @rule(sent=consumes(requests))
    def lose(self, sent: Sent) -> None:
        """The client gives up; the server learns nothing of it."""

    @rule(seconds=st.sampled_from([1.0, 60.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(sent=requests)
    def finish(self, sent: Sent) -> None:
        """Without faults from here on, a request ends, or its client is told to begin again."""
        try:
            while not sent.request.done:
                sent.request.receive(self.sessions[sent.who].answer(sent.request.message()))
        except LimitExceeded:
            assert self.in_flight(sent.who) >= LIMITS.requests
        except UnexpectedMessage:
            assert len(sent.messages) > 1, "a first message is always in time"

    @invariant()
    def what_is_done_is_right(self) -> None:
        for sent in getattr(self, "known", []):
            if sent.request.done:
                for name in sent.names:
                    expected = MODULES[name].module.reference_delta(sent.x)  # type: ignore[union-attr]
                    error = np.max(np.abs(sent.request.deltas[name] - expected), axis=1)
                    assert (error <= sent.request.error_bounds[name]).all()

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        for session in getattr(self, "sessions", []):
            assert session.requests <= LIMITS.requests + 1
            assert session.kept_bytes <= LIMITS.kept_bytes + LIMITS.requests * 1_000_000

    def in_flight(self, who: int) -> int:
        return self.sessions[who].in_flight

    def state(self, who: int) -> tuple[int, int, int]:
        session: Session = self.sessions[who]
        return session.requests, session.kept_bytes, session.in_flight


Network.TestCase.settings = examples(8, stateful_step_count=25)
TestNetwork = Network.TestCase
