"""One request at the client: activations go in, one message per round goes up and one comes down, Δ comes out.

Sans-IO: nothing here waits, connects or calls back. ``message`` gives bytes to send, ``receive`` takes the answer;
the transport may send the same bytes again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.envelope import PayloadKind, checksum_of
from helora_core.backend.ledger import InnerCounts, Ledger, OperationCounts
from helora_core.backend.session import ClientSession
from helora_core.compiler.compiled import Part, split
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounds import Phase
from helora_core.errors import CorruptPayload, LeakageRefused, UnexpectedMessage
from helora_core.execution.ledger_check import require_counts
from helora_core.packing.protocol import Vector
from helora_core.parties.batching import batches
from helora_core.parties.channel import Channel
from helora_core.parties.client_run import ClientRun, RunResult, joined
from helora_core.parties.messages import (
    MOST_MESSAGE_BYTES,
    Download,
    Upload,
    decode,
    encode,
    new_request_id,
)
from helora_core.parties.request_report import PhaseTimes, Report
from helora_core.parties.store import Ticket, Write

Received = Sequence[Sequence[bytes]]
"""An answer's payloads: those of each run of the first module, then of the next."""


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
        keys: The client's session for their parameters, or its channel.
        tokens: How many it is for.
        who: Its name in error messages.
    """

    def __init__(self, asked: Sequence[AskedModule], keys: ClientSession | Channel, tokens: int, who: str) -> None:
        self._asked = tuple(asked)
        self._alive = tuple(each for each in asked if not each.plan.is_zero)
        self._keys = keys
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
        opened = self._keys.open(PayloadKind.DOWNLOAD, answer, most_bytes=self._largest_answer())
        download = decode(opened, Download)
        self._check(download)
        executed = self._take(download.ciphertexts, checksum_of(answer))
        self._round_trips += 1
        self._bytes_down += len(answer)
        self._executed = self._executed.plus(download.executed).plus(executed)
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

    def _take(self, received: Received, follows: bytes) -> OperationCounts:
        """Go on with what was received: send the next message, or finish. ``follows`` is the answer's checksum.

        Returns:
            The client's own operations.
        """
        raise NotImplementedError

    def _largest_answer(self) -> int:
        """Bytes that an answer may have: what was asked for is known, and may be more than other messages may have."""
        return max(MOST_MESSAGE_BYTES, (sum(self._expected()) + 1) * self._keys.ciphertext_bytes)

    def _runs_of(self, each: AskedModule) -> int:
        return each.plan.runs(self._tokens)

    def _expected(self) -> list[int]:
        """Payloads of the answer: for each run of the first module, then of the next."""
        turns = [(each.plan.rounds[self._number], self._runs_of(each)) for each in self._alive]
        return [len(turn.outputs) for turn, times in turns for _ in range(times)]

    def _predicted(self) -> OperationCounts:
        """The server's operations for the answer."""
        predicted = OperationCounts()
        for each in self._alive:
            turn = each.plan.rounds[self._number]
            predicted = predicted.plus(turn.server_counts.times(self._runs_of(each)))
        return predicted

    def _send(self, ciphertexts: Sequence[Sequence[bytes]], follows: bytes = b"") -> None:
        names = tuple(each.name for each in self._alive)
        plans = tuple(each.plan.digest for each in self._alive)
        sent = tuple(map(tuple, ciphertexts))
        upload = Upload(self._id, self._number, names, plans, self._tokens, follows, sent)
        self._message = self._keys.seal(PayloadKind.UPLOAD, encode(upload))
        self._bytes_up += len(self._message)

    def _check(self, download: Download) -> None:
        """Refuse an answer that is not the one expected."""
        if download.request != self._id or download.number != self._number:
            raise UnexpectedMessage(
                f"{self._who}: the answer is to round {download.number} of "
                f"{'this' if download.request == self._id else 'another'} one; round {self._number} is expected.",
                hint="Give each answer to the request that it is for; drop one that came twice.",
            )
        expected = self._expected()
        if [len(each) for each in download.ciphertexts] != expected:
            raise CorruptPayload(
                f"{self._who}: the answer does not hold the ciphertexts of the {len(expected)} runs asked for.",
                hint="Use the same version of helora on both sides.",
            )
        require_counts("the server", download.executed, self._predicted())


class Request(Exchange):
    """A request for Δ of activations, as ``Client.begin`` returns it.

    Args:
        asked, session: As for ``Exchange``.
        x: Activations, float64, checked, shape (tokens, d_in).
        wanted: The parts that were named, whose Δ ``delta`` returns; the others are run along with them.
    """

    def __init__(
        self, asked: Sequence[AskedModule], keys: ClientSession | Channel, x: Vector, *, wanted: Sequence[str]
    ) -> None:
        start = time.perf_counter_ns()
        super().__init__(asked, keys, x.shape[0], "Request")
        self.wanted = tuple(wanted)
        self._deltas: dict[str, Vector] | None = None
        self._bounds: dict[str, Vector] = {}
        self._executed = self._start(x)
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

    def _client(self, ledger: Ledger) -> ClientSession:
        """The client's session, for one message."""
        assert isinstance(self._keys, ClientSession)  # a ``MaskedRequest`` does without
        return self._keys.with_ledger(ledger)

    def _start(self, x: Vector) -> OperationCounts:
        """Make the first message, or finish if none is needed. Returns the client's own operations."""
        ledger = Ledger()
        client = self._client(ledger)
        self._runs = {
            each.name: [ClientRun(each.plan, batch, module=each.module) for batch in batches(each.plan, x)]
            for each in self._asked
        }
        if self._alive:
            self._send([run.inputs(client) for run in self._runs[self._alive[0].name]])
        else:
            self._finish(client, [])
        return ledger.counts()

    def _take(self, received: Received, follows: bytes) -> OperationCounts:
        ledger = Ledger()
        client = self._client(ledger)
        if self._number + 1 == len(self._alive[0].plan.rounds):
            self._finish(client, received)
            return ledger.counts()
        runs = [run for each in self._alive for run in self._runs[each.name]]
        answers = [[run.answer(client, self._number + 1, outputs)] for run, outputs in zip(runs, received, strict=True)]
        self._number += 1
        self._send(answers, follows)
        return ledger.counts()

    def _finish(self, client: ClientSession, received: Received) -> None:
        rest = iter(received)
        alive = {each.name for each in self._alive}
        results = {}
        for each in self._asked:
            runs = self._runs[each.name]
            results[each.name] = joined([run.result(client, next(rest) if each.name in alive else ()) for run in runs])
        self._settle(results)

    def _settle(self, results: Mapping[str, RunResult]) -> None:
        """Finish, with the result of each module."""
        deltas: dict[str, Vector] = {}
        for each in self._asked:
            deltas |= split(results[each.name].delta, each.parts)
        self._bounds = {name: result.error_bound for name, result in results.items()}
        self._deltas, self._message = deltas, None
