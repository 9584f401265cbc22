"""One client's session at a server: requests in flight, and answers that may be asked for again.

Sans-IO: bytes in, bytes out. It holds evaluation keys only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn, TypeAlias

import msgspec

from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.session import ServerSession
from helora_core.compiler.compiled import CompiledModule, require_one_input
from helora_core.compiler.plan import Plan
from helora_core.errors import ForeignCiphertext, InvalidInput, LimitExceeded, UnexpectedMessage
from helora_core.execution.executor import Execution
from helora_core.params.ckks import CKKSParams
from helora_core.parties.batches import Batches, TakesTime
from helora_core.parties.channel import Channel
from helora_core.parties.making import Making
from helora_core.parties.masked_answers import MaskedAnswers
from helora_core.parties.messages import Download, Upload, decode, encode
from helora_core.parties.served import Served
from helora_core.parties.store import Ticket, Write
from helora_core.parties.work import Answer, Held, Keys, Rounds, Work

Admit: TypeAlias = Callable[[Sequence[str], int], object]
"""Called with the names of modules and a number of tokens. It raises to refuse them."""

AT_ONCE_BYTES = 64 << 10
"""Longest message that is answered at once."""

_NO_KEYS = None, None
_MASKED = int(PayloadKind.MASKED_UPLOAD)


def admit_all(modules: Sequence[str], tokens: int) -> None:
    """Refuse nothing."""


class Session:
    """One client's session. ``Server.open`` makes it; one call at a time.

    A repeated message is answered with the same bytes, and nothing is computed for it. A refused message
    changes nothing; only if the library itself fails in a later round is the request lost.

    Args:
        served: What the server serves.
        keys: For each parameter set of the plans, the session that holds the client's evaluation keys, or its channel.
        closed: Called when the session is closed.
        admit: Called before anything is computed for a request, as ``Server.open`` says.
    """

    def __init__(
        self,
        served: Served,
        keys: Mapping[CKKSParams, Keys],
        closed: Callable[[Session], object],
        admit: Admit = admit_all,
    ) -> None:
        self._served = served
        self._admit = admit
        self._keys = {each.key_id: (params, each) for params, each in keys.items()}
        self._closed = closed
        self._held: OrderedDict[bytes, Held] = OrderedDict()
        self._batches: dict[bytes, Batches] = {}
        self._answers = MaskedAnswers(served)
        self._shown = Ticket(None)

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
        return sum(held.open for held in self._held.values())

    @property
    def kept_bytes(self) -> int:
        """Bytes of the answers that are kept, and of the masks of requests in flight."""
        return sum(held.bytes for held in self._held.values()) + self._answers.kept_bytes

    @property
    def correlations(self) -> int:
        """Number of correlations that the client has prepared here and not used."""
        return sum(self._prepared(key_id).left for key_id in self._keys)

    @property
    def durable(self) -> tuple[Write, ...]:
        """Writes that have to be durable, in order, before an answer refused as ``not-durable`` may be sent. A
        ``Deferred`` store leaves them to the caller.
        """
        self._shown = Ticket(self._served.batches.store)
        return self._shown.durable

    def written(self) -> None:
        """Acknowledge that the writes of ``durable`` are done, as they were when it was asked for; then the message is
        answered that waits for them. Other sessions may have made further ones since.
        """
        self._shown.written()

    def prepare(self, runs: int = 1) -> int:
        """Encrypt zeros for the results of so many runs of every module, while the server is idle, so that sanitising
        takes less time when they come. Unlike the other methods, it may be called from another thread.

        Returns:
            How many are ready: fewer than the results if the backend keeps no more, none if it prepares nothing.
        """
        ready = 0
        for params, keys in list(self._keys.values()):
            if isinstance(keys, ServerSession):
                for level, results in self._served.sanitized(params).items():
                    ready += keys.prepare_zeros(level, runs * results)
        return ready

    def close(self) -> None:
        """Drop the client's keys and requests, and its correlations if no store keeps them."""
        self._held.clear()
        self._answers.clear()
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
        if envelope.kind_of(message) == _MASKED:
            return self._masked(message)
        start = time.perf_counter_ns()
        (params, keys), payload = self._opened(PayloadKind.UPLOAD, message)
        upload = decode(payload, Upload)
        fingerprint = message[-envelope.CHECKSUM_BYTES :]  # it was checked when the message was read
        self._drop_idle()
        held = self._held.get(upload.request)
        if held is not None and held.upload == fingerprint:
            held.touched = self._served.clock()
            held.ticket.require("Session")
            return held.answer
        if held is None:
            held = self._begun(params, keys, upload)
        else:
            self._require_turn(held, upload)
        try:
            answer = held.work.answer(keys, upload, fingerprint)
        except BaseException:
            if upload.number and held.work.done:
                self._held.pop(upload.request, None)
            raise
        elapsed = time.perf_counter_ns() - start
        download = Download(upload.request, upload.number, answer.payloads, answer.executed, elapsed, answer.inner)
        held.answer = keys.seal(PayloadKind.DOWNLOAD, encode(download))
        held.upload, held.number, held.touched = fingerprint, upload.number + 1, self._served.clock()
        held.ticket = Ticket(self._served.batches.store if held.work.waits else None)
        self._held[upload.request] = held
        self._held.move_to_end(upload.request)
        self._make_room()
        self._tell(held, answer, elapsed)
        held.ticket.require("Session")
        return held.answer

    def answer_at_once(self, message: bytes) -> bytes | None:
        """The answer to a message that uses correlations, if it takes about as long as to hand it to another thread:
        no write, no waiting and few products. Otherwise None, and nothing changes: ``answer`` is for it.

        Raises:
            HeloraError: As ``answer`` raises it.
        """
        if len(message) > AT_ONCE_BYTES or envelope.kind_of(message) != _MASKED:
            return None
        if envelope.key_id_of(message) not in self._batches:  # they may have to be read
            return None
        try:
            return self._masked(message, at_once=True)
        except TakesTime:
            return None

    def _masked(self, message: bytes, *, at_once: bool = False) -> bytes:
        _, keys = self._keys.get(envelope.key_id_of(message), _NO_KEYS)
        if isinstance(keys, Channel):
            payload = keys.open(_MASKED, message, most_bytes=self._served.limits.message_bytes)
        else:
            self._opened(PayloadKind.MASKED_UPLOAD, message)
            raise ForeignCiphertext(
                "Session: masked activations are for keys of plans that run online.",
                hint="Send each client's messages to the session that its keys opened.",
            )
        return self._answers.answer(keys, self._prepared(keys.key_id), message, payload, at_once=at_once)

    def _opened(self, kind: PayloadKind, message: bytes) -> tuple[tuple[CKKSParams, Keys], bytes]:
        limit = self._served.limits.message_bytes
        opened = envelope.opened(kind, None, message, origin=self._served.origin, most_bytes=limit)
        keys = self._keys.get(opened.key_id)
        if keys is None:
            raise ForeignCiphertext(
                "Session: the message is for other keys than this session's, or the session is closed.",
                hint="Send each client's messages to the session that its keys opened.",
            )
        return keys, opened.payload

    def _begun(self, params: CKKSParams, keys: Keys, upload: Upload) -> Held:
        if upload.number != 0:
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
            self._prepared(keys.key_id).require_room(upload.request, upload.tokens)
        if self.in_flight >= self._served.limits.requests:
            raise LimitExceeded(
                f"Session: {self._served.limits.requests} requests are in flight, and no more are allowed.",
                hint="Finish one first.",
            )
        if (pending := sum(held.bytes for held in self._held.values() if held.open)) > self._served.limits.kept_bytes:
            raise LimitExceeded(
                f"Session: requests in flight hold {pending} bytes, and no more may be begun.", hint="Finish one first."
            )
        work = self._work(keys, upload, modules)
        return Held(upload.modules, modules, upload.tokens, work, self._served.clock())

    def _work(self, keys: Keys, upload: Upload, modules: tuple[CompiledModule, ...]) -> Work:
        """What a request takes that begins with this message."""
        served, named = self._served, list(zip(upload.modules, upload.plans, strict=True))
        if modules[0].plan.correlation is not None:
            weights = {name: served.factors(name, digest) for name, digest in named}
            batches = self._prepared(keys.key_id)
            admit = partial(self._admit, upload.modules)
            return Making(served.correlations, keys.params, modules, weights, batches, admit)
        self._admit(upload.modules, upload.tokens)
        runs = [
            Execution(each.plan, served.weights(name, digest))
            for (name, digest), each in zip(named, modules, strict=True)
            for _ in range(each.plan.runs(upload.tokens))
        ]
        return Rounds(modules, runs, upload.tokens)

    def _require_admissible(self, plan: Plan, upload: Upload) -> bool:
        """Refuse a first message that asks for too much. Returns whether it prepares."""
        ahead = plan.correlation is not None
        most = min(self._served.limits.correlations, plan.tokens_per_run) if ahead else self._served.limits.tokens
        if not 0 < upload.tokens <= most:
            raise LimitExceeded(
                f"Session: the request is for {upload.tokens} tokens; 1 to {most} are served at once.",
                hint="Send fewer tokens per request.",
            )
        return ahead

    def _prepared(self, key_id: bytes) -> Batches:
        """The batches that the client prepared with these keys."""
        if key_id not in self._batches:
            self._batches[key_id] = self._served.batches.of(key_id)
        return self._batches[key_id]

    def _require_turn(self, held: Held, upload: Upload) -> None:
        plans = tuple(each.plan.digest for each in held.modules)
        same = (upload.modules, upload.plans, upload.tokens) == (held.names, plans, held.tokens)
        same = same and upload.follows == envelope.checksum_of(held.answer)
        if upload.number == held.number and held.open and same:
            return
        raise UnexpectedMessage(
            f"Session: round {upload.number} of a request that expects "
            f"{f'round {held.number}' if held.open else 'nothing more'}, or one that follows another answer.",
            hint="Repeat a message as it was, byte for byte; or begin the request again.",
        )

    def _drop_idle(self) -> None:
        now, limits = self._served.clock(), self._served.limits
        for name in [name for name, held in self._held.items() if now - held.touched > limits.idle_s]:
            del self._held[name]

    def _make_room(self) -> None:
        """Drop the oldest answers of requests that are over."""
        limits = self._served.limits
        over = [name for name, held in self._held.items() if not held.open][:-1]
        for name in over:
            if len(self._held) <= limits.requests and self.kept_bytes <= limits.kept_bytes:
                return
            del self._held[name]

    def _tell(self, held: Held, answer: Answer, elapsed: int) -> None:
        self._served.telemetry.emit(
            "round.executed",
            elapsed,
            backend=self._served.backend.name,
            modules=len(held.modules),
            plan=held.modules[0].plan.digest,
            tokens=held.tokens,
            keyswitches=answer.executed.keyswitches,
            **msgspec.structs.asdict(answer.inner),
        )
