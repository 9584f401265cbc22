"""One request at the client: activations go in, a message a round goes out and comes back, Δ comes out.

Sans-IO: nothing here waits, connects or calls back. ``message`` gives bytes to send, ``receive`` takes bytes that came;
whoever carries them may send the same ones again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.session import ClientSession
from helora_core.compiler.compiled import Part, split
from helora_core.compiler.plan import Plan
from helora_core.errors import CorruptPayload, UnexpectedMessage
from helora_core.execution.ledger_check import require_counts
from helora_core.packing.protocol import Vector
from helora_core.parties.batching import batches
from helora_core.parties.client_run import ClientRun
from helora_core.parties.messages import (
    MOST_MESSAGE_BYTES,
    Download,
    Upload,
    decode,
    encode,
    new_request_id,
)


class PhaseTimes(msgspec.Struct):
    """Wall time in nanoseconds; no network is in it.

    Attributes:
        encrypt: At the client: pack, encrypt, serialise.
        compute: At the server: read, execute the program, serialise.
        decrypt: At the client: read, decrypt, unpack; and what it encrypts in between.
    """

    encrypt: int = 0
    compute: int = 0
    decrypt: int = 0

    @property
    def total(self) -> int:
        """All phases."""
        return self.encrypt + self.compute + self.decrypt


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a request took.

    Attributes:
        executed: Operations by the ledgers of both sides; equal to the plans' predictions.
        times: Wall time per phase.
        bytes_up: Bytes of the messages that the client sent, each once.
        bytes_down: Bytes of the messages that it received.
        round_trips: Messages up and down.
    """

    executed: OperationCounts
    times: PhaseTimes
    bytes_up: int
    bytes_down: int
    round_trips: int

    def plus(self, other: Report) -> Report:
        """Both together."""
        return Report(
            executed=self.executed.plus(other.executed),
            times=PhaseTimes(
                encrypt=self.times.encrypt + other.times.encrypt,
                compute=self.times.compute + other.times.compute,
                decrypt=self.times.decrypt + other.times.decrypt,
            ),
            bytes_up=self.bytes_up + other.bytes_up,
            bytes_down=self.bytes_down + other.bytes_down,
            round_trips=self.round_trips + other.round_trips,
        )


class AskedModule(msgspec.Struct, frozen=True):
    """One module of a request.

    Attributes:
        name: Its name at the server.
        parts: The adapter's modules that it was made of.
        plan: How it is run; with the module's exponent.
        module: The module in the clear, for packings whose client finishes the sum.
    """

    name: str
    parts: tuple[Part, ...]
    plan: Plan
    module: LoRAModule | None = None


class Request:
    """What ``Client.begin`` returns.

    Args:
        asked: The modules: of one input, one key set and one number of rounds. Dead ones cost nothing.
        session: The client's session for their parameters.
        x: Activations, float64, checked, shape (tokens, d_in).
        wanted: The parts that were named, whose Δ ``delta`` is; the others come with them.
    """

    def __init__(
        self, asked: Sequence[AskedModule], session: ClientSession, x: Vector, *, wanted: Sequence[str]
    ) -> None:
        start = time.perf_counter_ns()
        self.wanted = tuple(wanted)
        self._asked = tuple(asked)
        self._alive = tuple(each for each in asked if not each.plan.is_zero)
        self._session = session
        self._tokens = x.shape[0]
        self._id = new_request_id()
        self._number = 0
        self._times = PhaseTimes()
        self._bytes_up = self._bytes_down = self._round_trips = 0
        self._executed = OperationCounts()
        self._deltas: dict[str, Vector] | None = None
        self._bounds: dict[str, Vector] = {}
        self._message: bytes | None = None
        self._runs = {
            each.name: [ClientRun(each.plan, batch, module=each.module) for batch in batches(each.plan, x)]
            for each in self._asked
        }
        ledger = Ledger()
        if self._alive:
            client = session.with_ledger(ledger)
            self._send([run.inputs(client) for run in self._runs[self._alive[0].name]])
        else:
            self._finish(session, [])
        self._executed = ledger.counts()
        self._times.encrypt = time.perf_counter_ns() - start

    @property
    def done(self) -> bool:
        """Whether Δ is there."""
        return self._deltas is not None

    def message(self) -> bytes:
        """The bytes to send now: the same until the answer to them is received.

        Raises:
            UnexpectedMessage: There is nothing more to send.
        """
        if self._message is None:
            raise UnexpectedMessage("Request: it is done.", hint="Read request.delta, or begin another request.")
        return self._message

    def receive(self, answer: bytes) -> None:
        """Take the server's answer to the last message. Whatever is refused leaves the request as it was.

        Raises:
            UnexpectedMessage: It is the answer to another request or round, or none is awaited.
            CorruptPayload, ForeignCiphertext, VersionMismatch: It is damaged, or not of this server's.
            LedgerMismatch: The server did something else than the plan says.
        """
        start = time.perf_counter_ns()
        if self._message is None:
            raise UnexpectedMessage("Request: it is done, and an answer came.", hint="Drop the answer.")
        download = decode(self._session.open(PayloadKind.DOWNLOAD, answer, most_bytes=MOST_MESSAGE_BYTES), Download)
        received = self._checked(download)
        ledger = Ledger()
        client = self._session.with_ledger(ledger)
        if self._number + 1 < len(self._alive[0].plan.rounds):
            answers = [
                [run.answer(client, self._number + 1, outputs)]
                for each, of_module in zip(self._alive, received, strict=True)
                for run, outputs in zip(self._runs[each.name], of_module, strict=True)
            ]
            self._number += 1
            self._send(answers, follows=hashlib.sha256(answer).digest())
        else:
            self._finish(client, received)
        self._round_trips += 1
        self._bytes_down += len(answer)
        self._executed = self._executed.plus(download.executed).plus(ledger.counts())
        self._times.compute += download.elapsed_ns
        self._times.decrypt += time.perf_counter_ns() - start

    @property
    def deltas(self) -> dict[str, Vector]:
        """Δ of every part of the modules asked for, by its name: float64, shape (tokens, its d_out).

        Raises:
            UnexpectedMessage: The request is not done.
        """
        if self._deltas is None:
            raise UnexpectedMessage("Request: Δ is not there yet.", hint="Send request.message(), receive the answer.")
        return self._deltas

    @property
    def delta(self) -> Vector:
        """Δ of what was named: float64, shape (tokens, d_out); of several parts beside each other. Errors as of
        ``deltas``.
        """
        deltas = self.deltas
        return np.concatenate([deltas[name] for name in self.wanted], axis=1)

    @property
    def error_bounds(self) -> dict[str, Vector]:
        """For each module what no value of a token's Δ is off by more, but with a probability of 2^-40: float64, shape
        (tokens,).
        """
        return dict(self._bounds)

    @property
    def report(self) -> Report:
        """What it took so far."""
        return Report(
            executed=self._executed,
            times=self._times,
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            round_trips=self._round_trips,
        )

    def _send(self, ciphertexts: Sequence[Sequence[bytes]], follows: bytes = b"") -> None:
        names = tuple(each.name for each in self._alive)
        plans = tuple(each.plan.digest for each in self._alive)
        upload = Upload(self._id, self._number, names, plans, self._tokens, follows, tuple(map(tuple, ciphertexts)))
        self._message = self._session.seal(PayloadKind.UPLOAD, encode(upload))
        self._bytes_up += len(self._message)

    def _checked(self, download: Download) -> list[list[Sequence[bytes]]]:
        """What was received, by module and run, if it is what is awaited."""
        if download.request != self._id or download.number != self._number:
            raise UnexpectedMessage(
                f"Request: the answer is to round {download.number} of "
                f"{'this' if download.request == self._id else 'another'} request; round {self._number} is awaited.",
                hint="Give each answer to the request that it is for; drop one that came twice.",
            )
        turns = [each.plan.rounds[self._number] for each in self._alive]
        runs = [len(self._runs[each.name]) for each in self._alive]
        if [len(each) for each in download.ciphertexts] != [
            len(turn.outputs) for turn, times in zip(turns, runs, strict=True) for _ in range(times)
        ]:
            raise CorruptPayload(
                f"Request: the answer holds other ciphertexts than those of the {sum(runs)} runs asked for.",
                hint="Use the same version of helora on both sides.",
            )
        predicted = OperationCounts()
        for turn, times in zip(turns, runs, strict=True):
            predicted = predicted.plus(turn.server_counts.times(times))
        require_counts("the server", download.executed, predicted)
        rest = iter(download.ciphertexts)
        return [[next(rest) for _ in range(times)] for times in runs]

    def _finish(self, client: ClientSession, received: Sequence[Sequence[Sequence[bytes]]]) -> None:
        outputs = {each.name: of_module for each, of_module in zip(self._alive, received, strict=True)}
        deltas: dict[str, Vector] = {}
        bounds: dict[str, Vector] = {}
        for each in self._asked:
            runs = self._runs[each.name]
            results = [
                run.result(client, payloads)
                for run, payloads in zip(runs, outputs.get(each.name, [()] * len(runs)), strict=True)
            ]
            deltas |= split(np.concatenate([result.delta for result in results]), each.parts)
            bounds[each.name] = np.concatenate([result.error_bound for result in results])
        self._deltas, self._bounds, self._message = deltas, bounds, None
