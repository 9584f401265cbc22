"""Prepared requests, while either side crashes at any step and messages are lost, repeated, reordered and altered.

An eavesdropper writes down what leaves both parties: no correlation is ever used for two different masked activations.
Long, since it is one state machine: its rules share what they know of both parties.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations
from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.errors import (
    CorrelationUsed,
    CorruptPayload,
    ForeignCiphertext,
    HeloraError,
    LimitExceeded,
    NotDurable,
    PoolEmpty,
    UnexpectedMessage,
)
from helora_core.execution.constants import ConstantCache
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.limits import ServerLimits
from helora_core.parties.prepared import MaskedRequest
from helora_core.parties.request import Exchange
from helora_core.parties.server import Server
from helora_core.parties.store import Deferred, MemoryStore, Store, Write
from tests.conftest import examples
from tests.parties.ahead import ASSUME, integer_delta, prepared_module
from tests.parties.pair import altered, upload_of

SHAPE = ModuleShape.parse("3:2:1")
MODULES = {"m": prepared_module("m", 1, SHAPE)}
BACKEND = get_manager().load_backend("numpy")
CACHE = ConstantCache()
LIMITS = ServerLimits(requests=4, idle_s=100.0, correlations=400, batches=4)
OFFER = Server(MODULES, BACKEND, assume=ASSUME, constants=CACHE).offer()
FIRST = Client(OFFER, backend=BACKEND)
KEYS = FIRST.evaluation_keys()
OTHERS = Client(OFFER, backend=BACKEND).evaluation_keys()


def masked(message: bytes) -> bool:
    """Whether a message uses correlations."""
    return envelope.kind_of(message) == PayloadKind.MASKED_UPLOAD


BEGUN, SENT, DELIVERED, HANDED_OVER = range(4)


class Crash(Exception):
    """The process ends here."""


class Disk(MemoryStore):
    """What survives a crash; the process may end right before or after a write.

    Attributes:
        fatal: When the next write is the last thing that happens: ``before`` it, ``after`` it, or not.
    """

    fatal = ""

    def put_many(self, writes: Any) -> None:
        fatal, self.fatal = self.fatal, ""
        if fatal == "before":
            raise Crash
        super().put_many(writes)
        if fatal == "after":
            raise Crash

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: self.get(name) or b"" for name in self.names("")}


@dataclass
class Sent:
    """An exchange, and what passed. Its object is gone when the client crashes; the network still has its messages.

    Attributes:
        waits: Whether the last message is not answered yet.
    """

    exchange: Exchange | None
    x: Any = None
    waits: bool = False
    messages: list[bytes] = field(default_factory=list)
    answers: dict[bytes, bytes] = field(default_factory=dict)


class Crashes(RuleBasedStateMachine):
    """A client and a server, each with a disk."""

    exchanges: Bundle[Sent] = Bundle("exchanges")

    @initialize(target=exchanges, client_deferred=st.booleans(), server_deferred=st.booleans())
    def start(self, client_deferred: bool, server_deferred: bool) -> Sent:
        self.now = 0.0
        self.disks = {"client": Disk(), "server": Disk()}
        self.deferred = {"client": client_deferred, "server": server_deferred}
        self.stores: dict[str, Store] = {}
        self.known: list[Sent] = []
        self.left: dict[tuple[bytes, int], bytes] = {}
        self.answered: dict[tuple[bytes, int], bytes] = {}
        self.start_client()
        self.start_server()
        return self.fill()

    def fill(self) -> Sent:
        """A full pool, of which both sides have written all."""
        if self.session.correlations:
            self.client.discard("m")
            self.start_server_anew()
        sent = self.prepare(150)
        self.go_through_with(sent)
        for who in self.stores:
            self.flush(who, 9)
        return sent

    def store(self, who: str) -> Store:
        disk = self.disks[who]
        disk.fatal = ""
        self.stores[who] = Deferred(disk.contents) if self.deferred[who] else disk
        return self.stores[who]

    def start_client(self) -> None:
        self.client = Client(OFFER, backend=BACKEND, store=self.store("client"), low_water=10)
        self.client.__dict__["_keys"] = FIRST._keys  # what Client.restore does, without its passphrase
        for sent in self.known:
            sent.exchange = None if sent.exchange is not None and not sent.exchange.done else sent.exchange

    def start_server(self) -> None:
        server = Server(
            MODULES,
            BACKEND,
            assume=ASSUME,
            limits=LIMITS,
            clock=lambda: self.now,
            constants=CACHE,
            store=self.store("server"),
        )
        self.session, self.foreign = server.open(KEYS), server.open(OTHERS)

    def write(self, who: str, writes: tuple[Write, ...]) -> None:
        """What the owner of a ``Deferred`` store does; one write after the other, so that a crash may part them."""
        for each in writes:
            self.disks[who].put_many([each])

    @rule(target=exchanges, correlations=st.integers(1, 150))
    def prepare(self, correlations: int) -> Sent:
        sent = Sent(None)
        try:
            sent.exchange = self.client.prepare("m", correlations)
        except Crash:  # the first use of a pool takes the store over
            self.start_client()
        else:
            self.known.append(sent)
        return sent

    @rule(target=exchanges, tokens=st.sampled_from([1, 1, 1, 2, 63, 70]), steps=st.integers(BEGUN, HANDED_OVER))
    def use(self, tokens: int, steps: int) -> Sent:
        """A request, as far as it comes."""
        sent = self.begin(tokens)
        if sent.exchange is None:
            return self.fill()
        self.go_on(sent, steps)
        return sent

    @rule(sent=exchanges)
    def go_through_with(self, sent: Sent) -> None:
        """A preparation takes several messages."""
        for _ in range(8):
            self.go_on(sent, HANDED_OVER)

    @rule(sent=exchanges, steps=st.integers(SENT, HANDED_OVER))
    def go_on(self, sent: Sent, steps: int) -> None:
        for step in (self.send, self.deliver, self.hand_over)[:steps]:
            step(sent)

    def begin(self, tokens: int) -> Sent:
        x = synthetic_activations(SHAPE, tokens, seed=len(self.known))
        sent = Sent(None, x)
        try:
            sent.exchange = self.client.begin("m", x)
        except PoolEmpty:
            assert max([0, *(level.left for level in self.client.pools.values())]) < tokens
        except Crash:
            self.start_client()
        else:
            self.known.append(sent)
        return sent

    def send(self, sent: Sent) -> None:
        """The message leaves the client."""
        if sent.exchange is None or sent.exchange.done:
            return
        try:
            try:
                message = sent.exchange.message()
            except NotDurable:
                assert self.deferred["client"]
                self.write("client", sent.exchange.durable)
                sent.exchange.written()
                message = sent.exchange.message()
        except Crash:
            self.start_client()
            return
        assert not sent.waits or sent.messages[-1] == message, "what is sent again is the same bytes"
        sent.messages.append(message)
        sent.waits = True
        self.note(self.left, message)

    def deliver(self, sent: Sent) -> None:
        """A message arrives: for the first time or again, in whatever order."""
        for message in sent.messages[-1:]:
            answer = self.answer(message)
            if answer is not None:
                known = sent.answers.get(message, answer)
                if not masked(message) and known != answer:
                    self.forget_answers()  # a server that forgot the batch made it anew, with another nonce
                assert not masked(message) or known == answer
                sent.answers[message] = answer

    def forget_answers(self) -> None:
        self.answered.clear()
        for sent in self.known:
            sent.answers.clear()

    def answer(self, message: bytes) -> bytes | None:
        try:
            try:
                answer = self.session.answer(message)
            except NotDurable:
                assert self.deferred["server"]
                self.write("server", self.session.durable)
                self.session.written()
                answer = self.session.answer(message)
        except (CorrelationUsed, UnexpectedMessage, LimitExceeded):
            return None
        except Crash:
            self.start_server()
            return None
        self.note(self.answered, message)
        return answer

    def hand_over(self, sent: Sent) -> None:
        """The answer arrives at the client."""
        answer = sent.answers.get(sent.messages[-1]) if sent.waits else None
        if sent.exchange is None or sent.exchange.done or answer is None:
            return
        try:
            sent.exchange.receive(answer)
            sent.waits = False
        except Crash:
            self.start_client()

    @rule(sent=exchanges, other=exchanges)
    def mix_up(self, sent: Sent, other: Sent) -> None:
        if sent is other or sent.exchange is None or sent.exchange.done or not other.answers:
            return
        with pytest.raises((UnexpectedMessage, ForeignCiphertext, CorruptPayload)):  # the last, for another kind
            sent.exchange.receive(next(iter(other.answers.values())))

    @rule(sent=exchanges)
    def ask_again_with_other_activations(self, sent: Sent) -> None:
        """A client that deviates; the eavesdropper sees whether the server answers both."""
        if sent.messages and masked(sent.messages[-1]):
            y = upload_of(sent.messages[-1]).numbers
            self.answer(altered(sent.messages[-1], numbers=bytes(8) + y[8:]))

    @rule(sent=exchanges, cut=st.integers(1, 200), flip=st.booleans())
    def damage(self, sent: Sent, cut: int, flip: bool) -> None:
        for message in sent.messages[-1:]:
            before = self.session.correlations
            place = len(message) - min(cut, len(message))
            damaged = message[:place] + (bytes([message[place] ^ 1]) + message[place + 1 :] if flip else b"")
            with pytest.raises(HeloraError):
                self.session.answer(damaged)
            with pytest.raises(ForeignCiphertext):
                self.foreign.answer(message)
            assert self.session.correlations == before

    @rule(who=st.sampled_from(["client", "server"]), kept=st.sampled_from([0, 0, 0, 1, 2]))
    def crash(self, who: str, kept: int) -> None:
        """Some of what waits to be written is, and then the process ends."""
        self.flush(who, kept)
        (self.start_client if who == "client" else self.start_server)()

    @rule(who=st.sampled_from(["client", "server"]), fatal=st.sampled_from(["before", "after"]))
    def crash_at_the_next_write(self, who: str, fatal: str) -> None:
        self.disks[who].fatal = fatal

    def flush(self, who: str, count: int) -> None:
        """Somebody writes some of what waits, ahead of any message."""
        store = self.stores[who]
        if not isinstance(store, Deferred):
            return
        for _ in store.pending()[:count]:
            try:
                self.write(who, store.pending()[:1])
            except Crash:
                (self.start_client if who == "client" else self.start_server)()
                return
            store.written(store.put - len(store.pending()) + 1)

    @rule(seconds=st.sampled_from([1.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=exchanges, tokens=st.integers(1, 5))
    def go_through(self, tokens: int) -> Sent:
        """Without faults, a request ends at last, if need be with a batch of its own."""
        for disk in self.disks.values():
            disk.fatal = ""
        for _ in range(200):
            sent = self.begin(tokens)
            if sent.exchange is None:
                sent = self.fill()
            self.go_on(sent, HANDED_OVER)
            if isinstance(sent.exchange, MaskedRequest) and sent.exchange.done:
                return sent
        raise AssertionError("no request came through")

    def start_server_anew(self) -> None:
        """With an empty disk: what it had prepared is void, and nothing of it can be used again."""
        self.disks["server"] = Disk()
        self.start_server()
        self.forget_answers()

    def note(self, seen: dict[tuple[bytes, int], bytes], message: bytes) -> None:
        if not masked(message):
            return
        upload = upload_of(message)
        y = np.frombuffer(upload.numbers, dtype="<u8").reshape(-1, SHAPE.d_in)
        indices = [(span.batch, i) for span in upload.spans for i in range(span.start, span.start + span.count)]
        for token, index in enumerate(indices):
            numbers = y[token].tobytes()
            assert seen.setdefault(index, numbers) == numbers, "a correlation was used twice"

    @invariant()
    def what_is_done_is_right(self) -> None:
        for sent in getattr(self, "known", []):
            if isinstance(sent.exchange, MaskedRequest) and sent.exchange.done:
                np.testing.assert_array_equal(sent.exchange.delta, integer_delta(MODULES["m"], sent.x))

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        if hasattr(self, "session"):
            assert self.session.correlations <= LIMITS.correlations
            assert len(self.disks["server"].names("")) <= 2 * LIMITS.batches + 1


# What fails is not made shorter, which takes minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
Crashes.TestCase.settings = examples(25, stateful_step_count=30, phases=PHASES)
TestCrashes = Crashes.TestCase
