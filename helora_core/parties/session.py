"""One client's session at a server: requests in flight, and answers that may be asked for again.

Sans-IO: bytes in, bytes out. It holds evaluation keys only.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import msgspec

from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.session import ServerSession
from helora_core.compiler.compiled import CompiledModule, require_one_input
from helora_core.compiler.plan import Plan
from helora_core.errors import CorruptPayload, ForeignCiphertext, InvalidInput, LimitExceeded, UnexpectedMessage
from helora_core.execution.executor import Execution, Turn, proceed_together
from helora_core.execution.ledger_check import require_counts
from helora_core.params.ckks import CKKSParams
from helora_core.parties.batches import Batches, mask_seed, new_seed
from helora_core.parties.messages import Download, Upload, decode, encode
from helora_core.parties.served import Served
from helora_core.parties.store import Ticket, Write


@dataclass
class _Held:
    """The state of one request at the server.

    Attributes:
        upload: SHA-256 of the message that was answered last.
        answer: The answer to it.
        names, modules, tokens: What the request is for.
        runs: The runs that go on in further rounds; empty after the last.
        number: The next round.
        touched: When its last message came.
        seed: The seed of the masks, if correlations are being prepared.
        ticket: The writes that have to be durable before the answer may be sent.
    """

    upload: bytes
    answer: bytes
    names: tuple[str, ...]
    modules: tuple[CompiledModule, ...]
    tokens: int
    runs: list[Execution]
    number: int
    touched: float
    seed: bytes = b""
    ticket: Ticket = field(default_factory=lambda: Ticket(None))

    @property
    def bytes(self) -> int:
        """Bytes held for it: the answer, and the masks of later rounds."""
        return len(self.answer) + sum(run.bytes_held for run in self.runs)


class Session:
    """One client's session. ``Server.open`` makes it; one call at a time.

    A repeated message is answered with the same bytes, and nothing is computed for it. A refused message
    changes nothing; only if the library itself fails in a later round is the request lost.

    Args:
        served: What the server serves.
        keys: For each parameter set of the plans, the session that holds the client's evaluation keys.
        closed: Called when the session is closed.
    """

    def __init__(
        self, served: Served, keys: Mapping[CKKSParams, ServerSession], closed: Callable[[Session], object]
    ) -> None:
        self._served = served
        self._keys = {each.key_id: (params, each) for params, each in keys.items()}
        self._closed = closed
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._batches: dict[bytes, Batches] = {}

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "Session: it holds a library's objects, so it can be neither pickled nor copied.",
            hint="Open one in the other process, with client.evaluation_keys().",
        )

    @property
    def requests(self) -> int:
        """Number of requests in flight, and of those whose last answer is kept."""
        return len(self._held)

    @property
    def in_flight(self) -> int:
        """Number of requests with rounds still to come."""
        return sum(bool(held.runs) for held in self._held.values())

    @property
    def kept_bytes(self) -> int:
        """Bytes of the answers that are kept, and of the masks of requests in flight."""
        return sum(held.bytes for held in self._held.values())

    @property
    def correlations(self) -> int:
        """Number of correlations that the client has prepared here and not used."""
        return sum(self._prepared(key_id).left for key_id in self._keys)

    @property
    def durable(self) -> tuple[Write, ...]:
        """Writes that have to be durable, in order, before an answer refused as ``not-durable`` may be sent. A
        ``Deferred`` store leaves them to the caller.
        """
        return Ticket(self._served.batches.store).durable

    def written(self) -> None:
        """Acknowledge that the writes of ``durable`` are done; then the same message is answered."""
        Ticket(self._served.batches.store).written()

    def prepare(self, runs: int = 1) -> int:
        """Encrypt zeros for the results of so many runs of every module, while the server is idle, so that sanitising
        takes less time when they come. Unlike the other methods, it may be called from another thread.

        Returns:
            How many are ready: fewer than the results if the backend keeps no more, none if it prepares nothing.
        """
        ready = 0
        for params, keys in list(self._keys.values()):
            for level, results in self._served.sanitized(params).items():
                ready += keys.prepare_zeros(level, runs * results)
        return ready

    def close(self) -> None:
        """Drop the client's keys and requests, and its correlations if no store keeps them."""
        self._held.clear()
        self._batches.clear()
        self._keys.clear()
        self._closed(self)

    def answer(self, message: bytes) -> bytes:
        """The answer to one message of a client's request.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: It is damaged, or for other keys.
            UnexpectedMessage: Its request is unknown, or another round is expected.
            InvalidInput: It asks for modules that are not served, or that take different inputs.
            LimitExceeded: It is for too many tokens, or there are as many requests, bytes or correlations as allowed.
            CorrelationUsed: Its correlations are used, or may be.
            NotDurable: The store is ``Deferred``: do the writes of ``durable``, call ``written()``, and ask again.
        """
        start = time.perf_counter_ns()
        params, session, upload = self._read(message)
        fingerprint = hashlib.sha256(message).digest()
        self._drop_idle()
        held = self._held.get(upload.request)
        if held is not None and held.upload == fingerprint:
            held.touched = self._served.clock()
            held.ticket.require("Session")
            return held.answer
        if held is None:
            held = self._begun(params, session, upload)
        else:
            self._require_turn(held, upload)
        if upload.spans:
            weights = {
                name: self._served.factors(name, plan) for name, plan in zip(held.names, upload.plans, strict=True)
            }
            computed = self._prepared(session.key_id).answers(held.modules[0].plan, weights, upload, session.params)
            ledger = Ledger()
        else:
            computed, ledger = self._computed(held, session, upload)
        elapsed = time.perf_counter_ns() - start
        download = Download(upload.request, upload.number, computed, ledger.counts(), elapsed, ledger.inner())
        held.answer = session.seal(PayloadKind.DOWNLOAD, encode(download))
        held.upload, held.number, held.touched = fingerprint, upload.number + 1, self._served.clock()
        if all(run.done for run in held.runs):
            self._keep(held, session, upload)
            held.runs = []
        held.ticket = Ticket(self._served.batches.store if held.modules[0].plan.correlation else None)
        self._held[upload.request] = held
        self._held.move_to_end(upload.request)
        self._make_room()
        self._tell(held, ledger, elapsed)
        held.ticket.require("Session")
        return held.answer

    def _read(self, message: bytes) -> tuple[CKKSParams, ServerSession, Upload]:
        limit = self._served.limits.message_bytes
        opened = envelope.opened(PayloadKind.UPLOAD, None, message, origin=self._served.origin, most_bytes=limit)
        keys = self._keys.get(opened.key_id)
        if keys is None:
            raise ForeignCiphertext(
                "Session: the message is for other keys than this session's, or the session is closed.",
                hint="Send each client's messages to the session that its keys opened.",
            )
        return *keys, decode(opened.payload, Upload)

    def _begun(self, params: CKKSParams, session: ServerSession, upload: Upload) -> _Held:
        if upload.number != 0 and not upload.spans:
            raise UnexpectedMessage(
                f"Session: round {upload.number} of a request that is not known here, or no longer.",
                hint="Begin the request again.",
            )
        # Messages do not repeat what a client sends: it should not end up in logs.
        found = [self._served.compiled(*each) for each in zip(upload.modules, upload.plans)]  # noqa: B905 - next line
        modules = tuple(each for each in found if each is not None)
        asked = len(upload.modules)
        if not asked or len(set(upload.modules)) < asked or not len(upload.plans) == len(modules) == asked:
            raise InvalidInput(
                f"Session: the request names {asked} modules, {asked - len(modules)} of which are not served "
                "by the plan named.",
                hint="Ask for modules of the offer, each once and by one of its plans.",
            )
        require_one_input({name: each.plan for name, each in zip(upload.modules, modules, strict=True)})
        if modules[0].plan.params != params:
            raise ForeignCiphertext(
                "Session: the message is for keys of other parameters than those of the modules that it names.",
                hint="Encrypt with the keys of the modules' own parameters.",
            )
        ahead = self._require_admissible(modules[0].plan, upload)
        if ahead:
            self._prepared(session.key_id).require_room(upload.request, upload.tokens)
        seed = new_seed() if ahead else b""
        if self.in_flight >= self._served.limits.requests:
            raise LimitExceeded(
                f"Session: {self._served.limits.requests} requests are in flight, and no more are allowed.",
                hint="Finish one first.",
            )
        if (pending := sum(held.bytes for held in self._held.values() if held.runs)) > self._served.limits.kept_bytes:
            raise LimitExceeded(
                f"Session: requests in flight hold {pending} bytes, and no more may be begun.", hint="Finish one first."
            )
        runs = [
            Execution(each.plan, constants, mask_seed=mask_seed(seed, name, run) if seed else b"")
            for name, digest, each in zip(upload.modules, upload.plans, modules, strict=True)
            for constants in ([] if upload.spans else [self._served.weights(name, digest)])
            for run in range(each.plan.runs(upload.tokens))
        ]
        return _Held(b"", b"", upload.modules, modules, upload.tokens, runs, 0, self._served.clock(), seed)

    def _require_admissible(self, plan: Plan, upload: Upload) -> bool:
        """Refuse a first message that asks for too much, or does not fit the plan. Returns whether it prepares."""
        ahead = plan.correlation is not None and not upload.spans
        most = self._served.limits.correlations if ahead else self._served.limits.tokens
        if not 0 < upload.tokens <= most:
            raise LimitExceeded(
                f"Session: the request is for {upload.tokens} tokens; 1 to {most} are served at once.",
                hint="Send fewer tokens per request.",
            )
        named = sum(span.count for span in upload.spans)
        last = len(plan.rounds) - 1
        if upload.spans and (plan.correlation is None or (upload.number, upload.tokens) != (last, named)):
            raise UnexpectedMessage(
                "Session: correlations are named though none are used, or not one for each token.",
                hint="Use the same version of helora on both sides.",
            )
        return ahead

    def _prepared(self, key_id: bytes) -> Batches:
        """The batches that the client prepared with these keys."""
        if key_id not in self._batches:
            self._batches[key_id] = self._served.batches.of(key_id)
        return self._batches[key_id]

    def _keep(self, held: _Held, session: ServerSession, upload: Upload) -> None:
        """Keep the batch that was prepared, if one was."""
        if not (held.seed and held.runs):
            return
        modules = {
            name: self._served.factors(name, plan).fingerprint
            for name, plan in zip(held.names, upload.plans, strict=True)
        }
        try:
            self._prepared(session.key_id).add(upload.request, held.tokens, held.seed, modules)
        except BaseException:
            self._held.pop(upload.request, None)
            raise

    def _require_turn(self, held: _Held, upload: Upload) -> None:
        plans = tuple(each.plan.digest for each in held.modules)
        same = (upload.modules, upload.plans, upload.tokens) == (held.names, plans, held.tokens)
        same = same and upload.follows == hashlib.sha256(held.answer).digest()
        if upload.number == held.number and held.runs and same:
            return
        raise UnexpectedMessage(
            f"Session: round {upload.number} of a request that expects "
            f"{f'round {held.number}' if held.runs else 'nothing more'}, or one that follows another answer.",
            hint="Repeat a message as it was, byte for byte; or begin the request again.",
        )

    def _computed(
        self, held: _Held, session: ServerSession, upload: Upload
    ) -> tuple[tuple[tuple[bytes, ...], ...], Ledger]:
        """The outputs of each run of the first module, then of the next; and the ledger of what was executed."""
        turns = [(each.plan.rounds[upload.number], each.plan.runs(held.tokens)) for each in held.modules]
        shared = upload.number == 0
        expected = [len(turn.inputs) for turn, runs in (turns[:1] if shared else turns) for _ in range(runs)]
        if [len(payloads) for payloads in upload.ciphertexts] != expected:
            raise CorruptPayload(
                f"Session: the message does not hold the ciphertexts of the {len(expected)} runs of its request.",
                hint="Use the same version of helora on both sides.",
            )
        ledger = Ledger()
        session = session.with_ledger(ledger)
        inputs = [[session.deserialize(payload) for payload in payloads] for payloads in upload.ciphertexts]
        try:
            outputs = proceed_together(
                [
                    Turn(run, session, given)
                    for run, given in zip(held.runs, inputs * (len(turns) if shared else 1), strict=True)
                ]
            )
            predicted = OperationCounts()
            for turn, runs in turns:
                predicted = predicted.plus(turn.server_counts.times(runs))
            require_counts("the server", ledger.counts(), predicted)
        except BaseException:
            self._held.pop(upload.request, None)  # some of its runs are in the next round, and others are not
            raise
        return tuple(tuple(session.serialize(each) for each in of_run) for of_run in outputs), ledger

    def _drop_idle(self) -> None:
        now, limits = self._served.clock(), self._served.limits
        for name in [name for name, held in self._held.items() if now - held.touched > limits.idle_s]:
            del self._held[name]

    def _make_room(self) -> None:
        """Drop the oldest answers of requests that are over."""
        limits = self._served.limits
        over = [name for name, held in self._held.items() if not held.runs][:-1]
        for name in over:
            if len(self._held) <= limits.requests and self.kept_bytes <= limits.kept_bytes:
                return
            del self._held[name]

    def _tell(self, held: _Held, ledger: Ledger, elapsed: int) -> None:
        self._served.telemetry.emit(
            "round.executed",
            elapsed,
            backend=self._served.backend.name,
            modules=len(held.modules),
            plan=held.modules[0].plan.digest,
            tokens=held.tokens,
            keyswitches=ledger.counts().keyswitches,
            **msgspec.structs.asdict(ledger.inner()),
        )
