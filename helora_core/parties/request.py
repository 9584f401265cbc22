"""One request at the client: activations go in, one message per round goes up and one comes down, Δ comes out.

Sans-IO: nothing here waits, connects or calls back. ``message`` gives bytes to send, ``receive`` takes the answer;
the transport may send the same bytes again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import InnerCounts, Ledger, OperationCounts
from helora_core.backend.session import ClientSession
from helora_core.compiler.compiled import Part, split
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounds import Phase, Round
from helora_core.errors import CorruptPayload, LeakageRefused, UnexpectedMessage
from helora_core.execution.ledger_check import require_counts
from helora_core.packing.protocol import Vector
from helora_core.parties.batching import batches
from helora_core.parties.client_run import ClientRun, RunResult, joined
from helora_core.parties.messages import (
    MOST_MESSAGE_BYTES,
    Download,
    Span,
    Upload,
    decode,
    encode,
    new_request_id,
)
from helora_core.parties.request_report import PhaseTimes, Report
from helora_core.parties.store import Ticket, Write

Received = Sequence[Sequence[Sequence[bytes]]]
"""An answer's payloads: those of each run of each module."""


class AskedModule(msgspec.Struct, frozen=True):
    """One module of a request.

    Attributes:
        name: Its name at the server.
        parts: The adapter's modules that it was made of.
        plan: The plan to run it with; it has the module's exponent.
        module: The module in the clear, for packings whose client finishes the sum.
    """

    name: str
    parts: tuple[Part, ...]
    plan: Plan
    module: LoRAModule | None = None


def finishing(plan: Plan, name: str, adapter: Mapping[str, LoRAModule] | None) -> LoRAModule | None:
    """The module in the clear, if the plan's client finishes the sum.

    Raises:
        LeakageRefused: The module is needed and was not given.
    """
    if not plan.packing.client_finishes:
        return None
    if adapter is None or name not in adapter:
        raise LeakageRefused(
            f"Client: packing {plan.packing.name} needs module {name} in the clear at the client.",
            hint="Only the adapter's owner can use it: give the client the adapter, or compile with another packing.",
        )
    return adapter[name]


class Exchange:
    """Messages back and forth until there is a result: the base of requests and preparations.

    Args:
        asked: The modules: of one input, one key set and one number of rounds. Those with a Δ of zero cost nothing.
        session: The client's session for their parameters.
        tokens: How many it is for.
        who: Its name in error messages.
    """

    def __init__(self, asked: Sequence[AskedModule], session: ClientSession, tokens: int, who: str) -> None:
        self._asked = tuple(asked)
        self._alive = tuple(each for each in asked if not each.plan.is_zero)
        self._session = session
        self._tokens = tokens
        self._who = who
        self._id = new_request_id()
        self._number = 0
        self._times = PhaseTimes()
        self._bytes_up = self._bytes_down = self._round_trips = self._correlations = 0
        self._executed = OperationCounts()
        self._inner = InnerCounts()
        self._phase = Phase.ONLINE
        self._message: bytes | None = None
        self._ticket = Ticket(None)

    @property
    def done(self) -> bool:
        """Whether there is nothing more to send."""
        return self._message is None

    @property
    def durable(self) -> tuple[Write, ...]:
        """Writes of a ``Deferred`` store that have to be durable, in order, before the message may be sent."""
        return self._ticket.durable

    def written(self) -> None:
        """Acknowledge that what ``durable`` holds is written, and would be found after a crash."""
        self._ticket.written()

    def message(self) -> bytes:
        """The bytes to send now: the same until the answer to them is received.

        Raises:
            UnexpectedMessage: There is nothing more to send.
            NotDurable: The writes that have to be durable first are not acknowledged.
        """
        if self._message is None:
            raise UnexpectedMessage(f"{self._who}: it is already done.", hint="Read its result, or begin another one.")
        self._ticket.require(self._who)
        return self._message

    def receive(self, answer: bytes) -> None:
        """Take the server's answer to the last message. A refused answer changes nothing.

        Raises:
            UnexpectedMessage: It is the answer to another request or round, or none is awaited.
            CorruptPayload, ForeignCiphertext, VersionMismatch: It is damaged, or not of this server's.
            LedgerMismatch: The server did something else than the plan says.
        """
        start = time.perf_counter_ns()
        if self._message is None:
            raise UnexpectedMessage(f"{self._who}: it is done, and an answer came.", hint="Drop the answer.")
        opened = self._session.open(PayloadKind.DOWNLOAD, answer, most_bytes=self._largest_answer())
        download = decode(opened, Download)
        received = self._checked(download)
        ledger = Ledger()
        self._take(self._session.with_ledger(ledger), received, hashlib.sha256(answer).digest())
        self._round_trips += 1
        self._bytes_down += len(answer)
        self._executed = self._executed.plus(download.executed).plus(ledger.counts())
        self._inner = self._inner.plus(download.inner)
        self._times.compute += download.elapsed_ns
        self._times.decrypt += time.perf_counter_ns() - start

    @property
    def report(self) -> Report:
        """What it took so far."""
        return Report(
            executed=self._executed,
            inner=self._inner,
            times=self._times,
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            round_trips=self._round_trips,
            phase=self._phase,
            correlations=self._correlations,
        )

    def _take(self, client: ClientSession, received: Received, follows: bytes) -> None:
        """Go on with what was received: send the next message, or finish. ``follows`` is the SHA-256 of the answer."""
        raise NotImplementedError

    def _largest_answer(self) -> int:
        """Bytes that an answer may have: what was asked for is known, and may be more than other messages may have."""
        turns = [each.plan.rounds[self._number] for each in self._alive]
        runs = map(self._runs_of, self._alive)
        payloads = sum(times * self._payloads(turn) for turn, times in zip(turns, runs, strict=True))
        return max(MOST_MESSAGE_BYTES, (payloads + 1) * self._session.ciphertext_bytes)

    def _payloads(self, turn: Round) -> int:
        """Payloads of an answer for one run of a module."""
        return len(turn.outputs)

    def _runs_of(self, each: AskedModule) -> int:
        return each.plan.runs(self._tokens)

    def _send(self, ciphertexts: Sequence[Sequence[bytes]], follows: bytes = b"", spans: tuple[Span, ...] = ()) -> None:
        names = tuple(each.name for each in self._alive)
        plans = tuple(each.plan.digest for each in self._alive)
        sent = tuple(map(tuple, ciphertexts))
        upload = Upload(self._id, self._number, names, plans, self._tokens, follows, sent, spans)
        self._message = self._session.seal(PayloadKind.UPLOAD, encode(upload))
        self._bytes_up += len(self._message)

    def _checked(self, download: Download) -> Received:
        """The payloads received, after checking that they are the ones expected."""
        if download.request != self._id or download.number != self._number:
            raise UnexpectedMessage(
                f"{self._who}: the answer is to round {download.number} of "
                f"{'this' if download.request == self._id else 'another'} one; round {self._number} is expected.",
                hint="Give each answer to the request that it is for; drop one that came twice.",
            )
        turns = [each.plan.rounds[self._number] for each in self._alive]
        runs = list(map(self._runs_of, self._alive))
        if [len(each) for each in download.ciphertexts] != [
            self._payloads(turn) for turn, times in zip(turns, runs, strict=True) for _ in range(times)
        ]:
            raise CorruptPayload(
                f"{self._who}: the answer does not hold the ciphertexts of the {sum(runs)} runs asked for.",
                hint="Use the same version of helora on both sides.",
            )
        predicted = OperationCounts()
        for turn, times in zip(turns, runs, strict=True):
            predicted = predicted.plus(turn.server_counts.times(times))
        require_counts("the server", download.executed, predicted)
        rest = iter(download.ciphertexts)
        return [[next(rest) for _ in range(times)] for times in runs]


class Request(Exchange):
    """A request for Δ of activations, as ``Client.begin`` returns it.

    Args:
        asked, session: As for ``Exchange``.
        x: Activations, float64, checked, shape (tokens, d_in).
        wanted: The parts that were named, whose Δ ``delta`` returns; the others are run along with them.
    """

    def __init__(
        self, asked: Sequence[AskedModule], session: ClientSession, x: Vector, *, wanted: Sequence[str]
    ) -> None:
        start = time.perf_counter_ns()
        super().__init__(asked, session, x.shape[0], "Request")
        self.wanted = tuple(wanted)
        self._deltas: dict[str, Vector] | None = None
        self._bounds: dict[str, Vector] = {}
        ledger = Ledger()
        self._start(session.with_ledger(ledger), x)
        self._executed = ledger.counts()
        self._times.encrypt = time.perf_counter_ns() - start

    @property
    def done(self) -> bool:
        """Whether Δ has arrived."""
        return self._deltas is not None

    @property
    def deltas(self) -> dict[str, Vector]:
        """Δ of every part of the modules asked for, by its name: float64, shape (tokens, its d_out).

        Raises:
            UnexpectedMessage: The request is not done.
        """
        if self._deltas is None:
            raise UnexpectedMessage("Request: Δ is not ready yet.", hint="Send request.message(), receive the answer.")
        return self._deltas

    @property
    def delta(self) -> Vector:
        """Δ of the parts named: float64, shape (tokens, d_out); several parts side by side. Errors are those of
        ``deltas``.
        """
        deltas = self.deltas
        return np.concatenate([deltas[name] for name in self.wanted], axis=1)

    @property
    def error_bounds(self) -> dict[str, Vector]:
        """Each module's bound on the error of each value of a token's Δ, except with probability 2^-40: float64, shape
        (tokens,).
        """
        return dict(self._bounds)

    def _start(self, client: ClientSession, x: Vector) -> None:
        """Make the first message, or finish if none is needed."""
        self._runs = {
            each.name: [ClientRun(each.plan, batch, module=each.module) for batch in batches(each.plan, x)]
            for each in self._asked
        }
        if self._alive:
            self._send([run.inputs(client) for run in self._runs[self._alive[0].name]])
        else:
            self._finish(client, [])

    def _take(self, client: ClientSession, received: Received, follows: bytes) -> None:
        if self._number + 1 == len(self._alive[0].plan.rounds):
            self._finish(client, received)
            return
        answers = [
            [run.answer(client, self._number + 1, outputs)]
            for each, of_module in zip(self._alive, received, strict=True)
            for run, outputs in zip(self._runs[each.name], of_module, strict=True)
        ]
        self._number += 1
        self._send(answers, follows)

    def _finish(self, client: ClientSession, received: Received) -> None:
        outputs = {each.name: of_module for each, of_module in zip(self._alive, received, strict=True)}
        results = {}
        for each in self._asked:
            runs = self._runs[each.name]
            payloads = outputs.get(each.name, [()] * len(runs))
            results[each.name] = joined([run.result(client, of) for run, of in zip(runs, payloads, strict=True)])
        self._settle(results)

    def _settle(self, results: Mapping[str, RunResult]) -> None:
        """Finish, with the result of each module."""
        deltas: dict[str, Vector] = {}
        for each in self._asked:
            deltas |= split(results[each.name].delta, each.parts)
        self._bounds = {name: result.error_bound for name, result in results.items()}
        self._deltas, self._message = deltas, None
