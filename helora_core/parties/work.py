"""What a session does for the requests that it holds: rounds on ciphertexts, a batch in the making, online answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from helora_core.backend.ledger import InnerCounts, Ledger, OperationCounts
from helora_core.backend.session import ServerSession
from helora_core.compiler.compiled import CompiledModule
from helora_core.errors import CorruptPayload
from helora_core.execution.executor import Execution, Turn, proceed_together
from helora_core.execution.ledger_check import require_counts
from helora_core.parties.channel import Channel
from helora_core.parties.messages import Upload
from helora_core.parties.store import Ticket

Keys = ServerSession | Channel
"""A client's evaluation keys, or its name where each batch has keys of its own."""


class Answer(NamedTuple):
    """The content of an answer.

    Attributes:
        payloads: The outputs of each run of the first module, then of the next.
        executed, inner: What it took.
    """

    payloads: tuple[tuple[bytes, ...], ...]
    executed: OperationCounts = OperationCounts()
    inner: InnerCounts = InnerCounts()


class Work(Protocol):
    """What one request takes.

    Attributes:
        done: Whether no further message is expected.
        bytes_held: Bytes that are held for further messages.
        waits: Whether answers wait for writes to be durable.
    """

    @property
    def done(self) -> bool: ...

    @property
    def bytes_held(self) -> int: ...

    @property
    def waits(self) -> bool: ...

    def answer(self, keys: Keys, upload: Upload, fingerprint: bytes) -> Answer:
        """The answer to the next message.

        Raises:
            CorruptPayload: It does not hold what is expected. Nothing has changed.
            Lost: The work cannot go on.
        """
        ...


@dataclass
class Held:
    """The state of one request at the server.

    Attributes:
        names, modules, tokens: What the request is for.
        work: What it takes.
        touched: When its last message came.
        upload: Checksum of the message that was answered last.
        answer: The answer to it.
        number: The next message's number.
        ticket: The writes that have to be durable before the answer may be sent.
    """

    names: tuple[str, ...]
    modules: tuple[CompiledModule, ...]
    tokens: int
    work: Work
    touched: float
    upload: bytes = b""
    answer: bytes = b""
    number: int = 0
    ticket: Ticket = field(default_factory=lambda: Ticket(None))

    @property
    def open(self) -> bool:
        """Whether further messages are expected."""
        return not self.work.done

    @property
    def bytes(self) -> int:
        """Bytes held for it: the answer, and what later messages need."""
        return len(self.answer) + (self.work.bytes_held if self.open else 0)


class Rounds:
    """The runs of a request's modules, round by round.

    Args:
        modules: The modules.
        runs: The runs of the first module, then of the next.
        tokens: Of the request.
    """

    waits = False

    def __init__(self, modules: Sequence[CompiledModule], runs: Sequence[Execution], tokens: int) -> None:
        self._modules, self._runs, self._tokens = modules, runs, tokens
        self._lost = False

    @property
    def done(self) -> bool:
        return self._lost or all(run.done for run in self._runs)

    @property
    def bytes_held(self) -> int:
        return sum(run.bytes_held for run in self._runs)

    def answer(self, keys: Keys, upload: Upload, fingerprint: bytes) -> Answer:
        """The outputs of each run of the first module, then of the next; and the ledger of what was executed."""
        assert isinstance(keys, ServerSession)  # the modules' parameters are those of the keys
        turns = [(each.plan.rounds[upload.number], each.plan.runs(self._tokens)) for each in self._modules]
        shared = upload.number == 0
        expected = [len(turn.inputs) for turn, runs in (turns[:1] if shared else turns) for _ in range(runs)]
        if [len(payloads) for payloads in upload.ciphertexts] != expected:
            raise CorruptPayload(
                f"Session: the message does not hold the ciphertexts of the {len(expected)} runs of its request.",
                hint="Use the same version of helora on both sides.",
            )
        ledger = Ledger()
        session = keys.with_ledger(ledger)
        inputs = [[session.deserialize(payload) for payload in payloads] for payloads in upload.ciphertexts]
        try:
            outputs = proceed_together(
                [
                    Turn(run, session, given)
                    for run, given in zip(self._runs, inputs * (len(turns) if shared else 1), strict=True)
                ]
            )
            predicted = OperationCounts()
            for turn, runs in turns:
                predicted = predicted.plus(turn.server_counts.times(runs))
            require_counts("the server", ledger.counts(), predicted)
        except BaseException:
            self._lost = True  # some of its runs are in the next round, and others are not
            raise
        payloads = tuple(tuple(session.serialize(each) for each in of_run) for of_run in outputs)
        return Answer(payloads, ledger.counts(), ledger.inner())
