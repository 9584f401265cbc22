"""The server: an adapter's weights, encoded once, and a session for each client.

Sans-IO: bytes in, bytes out. No type here holds a secret key or can make one.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from helora_core.artifact.plan_file import Demands
from helora_core.backend.checked_backend import CheckedBackend, checked
from helora_core.backend.encoder import PlaintextEncoder
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.limits import MessageLimits
from helora_core.backend.origin import origin_of
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ServerSession
from helora_core.compiler.compiled import CompiledModule
from helora_core.compiler.key_sets import KeySet, key_sets
from helora_core.compiler.requirements import require_capabilities
from helora_core.errors import CorruptPayload, ForeignCiphertext, InvalidInput, LimitExceeded, UnexpectedMessage
from helora_core.execution.constants import ConstantCache, EncodedConstants
from helora_core.execution.executor import Execution
from helora_core.execution.ledger_check import require_counts
from helora_core.execution.telemetry import Telemetry
from helora_core.parties.key_bundle import read_bundle
from helora_core.parties.limits import ServerLimits
from helora_core.parties.messages import Download, Upload, decode, encode
from helora_core.parties.offer import offer_of
from helora_core.privacy.policy import require_private_weights


class Server:
    """Serves compiled modules on one backend. Weights are encoded when they are first asked for.

    Args:
        modules: What to serve, by the name that clients ask for.
        backend: The CKKS library.
        private_weights: Refuse plans that show weights to the key holder; False where it owns the adapter.
        limits: How much it holds for others.
        constants: Keeps encoded weights; for all sessions alike.
        telemetry: Told of each round executed.
        clock: Seconds, monotonic.

    Raises:
        LeakageRefused: A plan shows weights, and they are to be private.
        CapabilityMissing: The backend cannot do what a plan needs.
        InvalidInput: There is nothing to serve.
    """

    def __init__(
        self,
        modules: Mapping[str, CompiledModule],
        backend: Backend | CheckedBackend,
        *,
        private_weights: bool = True,
        limits: ServerLimits | None = None,
        constants: ConstantCache | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not modules:
            raise InvalidInput("Server: there are no modules to serve.", hint="Give at least one compiled module.")
        self.modules = dict(modules)
        plans = {compiled.plan.digest: compiled.plan for compiled in modules.values()}
        for plan in plans.values():
            if private_weights:
                require_private_weights(plan.packing.name, plan.packing.leakage, sanitize_bits=plan.sanitize_bits)
            require_capabilities(backend, plan)
        self.backend = checked(backend)
        self.origin = origin_of(self.backend.library)
        self.limits = limits or ServerLimits()
        self.key_sets = key_sets(list(plans.values()))
        self.constants = constants or ConstantCache()
        self._encoders = {each.params: PlaintextEncoder(backend, each.params) for each in self.key_sets}
        self.telemetry = telemetry or Telemetry()
        self.clock = clock
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        backend: str | None = None,
        allow_emulation: bool = False,
        limits: ServerLimits | None = None,
        demands: Demands | None = None,
    ) -> Server:
        """The server of an artifact: what ``CompiledLoRA.save`` or ``helora compile`` wrote; the adapter is nowhere.

        Args:
            directory: The artifact.
            backend: Name of the backend; the best that can run its plans if None.
            allow_emulation: Let a backend be chosen that encrypts nothing.
            limits: How much the server holds for others.
            demands: What its plans must keep, whatever they say of themselves; the defaults are strict.

        Raises:
            ArtifactInvalid, ArtifactUnsupported, InsecureParameters, LeakageRefused: As ``read_artifact`` does.
            BackendUnavailable: No backend that encrypts can run the plans.
        """
        from helora_core.artifact.read import read_artifact
        from helora_core.host.manager import get_manager
        from helora_core.planning.selection import select_backend

        manager, demands = get_manager(), demands or Demands()
        artifact = read_artifact(
            Path(directory),
            manager.load_packing,
            private_weights=demands.private_weights,
            sanitize_bits=demands.sanitize_bits,
            security_bits=demands.security_bits,
            table=demands.table,
        )
        plans = [module.plan for module in artifact.modules]
        name = select_backend(manager, backend, plans=plans, allow_emulation=allow_emulation).name
        modules = {
            module.name: CompiledModule(module, module.parts, module.plan.with_exponent(module.exponent))
            for module in artifact.modules
        }
        loaded = manager.load_backend(name)
        return cls(modules, loaded, private_weights=demands.private_weights, limits=limits)

    def offer(self) -> bytes:
        """What a client has to know: public, and the same for all clients."""
        return offer_of(self.modules, self.origin, self.limits.message_bytes)

    def weights(self, name: str) -> EncodedConstants:
        """A module's weights, encoded now unless they are already: once for all sessions."""
        compiled = self.modules[name]
        return self.constants.constants(compiled.plan, compiled.module, self._encoders[compiled.plan.params])

    def open(self, evaluation_keys: bytes) -> Session:
        """A session for the client of these keys.

        Args:
            evaluation_keys: What ``Client.evaluation_keys`` gave.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: They are damaged, or not for this server's plans.
            LimitExceeded: There are as many sessions as there may be.
        """
        if len(self._sessions) >= self.limits.sessions:
            raise LimitExceeded(
                f"Server: {len(self._sessions)} sessions are open, and no more may be.",
                hint="Close one (session.close()), or raise ServerLimits.sessions.",
            )
        bundle = read_bundle(evaluation_keys, [_most_bytes(each) for each in self.key_sets])
        servers = [
            ServerSession.from_keys(
                self.backend,
                each.params,
                keys,
                ledger=Ledger(),
                limits=MessageLimits.of(self.backend.resolve(each.params), rotations=len(each.rotation_steps)),
            )
            for each, keys in zip(self.key_sets, bundle, strict=True)
        ]
        session = Session(self, servers)
        self._sessions.add(session)
        return session

    def forget(self, session: Session) -> None:
        """Hold a session no longer; ``Session.close`` calls this."""
        self._sessions.discard(session)


def _most_bytes(keys: KeySet) -> int:
    return MessageLimits.of(keys.params, rotations=len(keys.rotation_steps)).key_bytes


@dataclass
class _Held:
    """One request at the server.

    Attributes:
        upload: SHA-256 of the message that was answered last.
        answer: The answer to it.
        names, modules, tokens: What the request is for.
        runs: What goes on in further rounds; empty after the last.
        number: The next round.
        touched: When it was last asked about.
    """

    upload: bytes
    answer: bytes
    names: tuple[str, ...]
    modules: tuple[CompiledModule, ...]
    tokens: int
    runs: list[Execution]
    number: int
    touched: float


class Session:
    """One client's session. ``Server.open`` makes it; one call at a time.

    A message that comes again is answered with the same bytes, and nothing is computed for it. Whatever is refused
    changes nothing.
    """

    def __init__(self, server: Server, servers: Sequence[ServerSession]) -> None:
        self._server = server
        self._by_key = {each.key_id: each for each in servers}
        self._held: OrderedDict[bytes, _Held] = OrderedDict()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "Session: it holds a library's objects, and is neither pickled nor copied.",
            hint="Open one in the other process, with client.evaluation_keys().",
        )

    @property
    def requests(self) -> int:
        """Requests in flight, and those whose last answer is kept."""
        return len(self._held)

    @property
    def in_flight(self) -> int:
        """Requests that have a round to come."""
        return sum(bool(held.runs) for held in self._held.values())

    @property
    def kept_bytes(self) -> int:
        """Bytes of the answers that are kept."""
        return sum(len(held.answer) for held in self._held.values())

    def close(self) -> None:
        """Drop the client's keys and requests."""
        self._held.clear()
        self._by_key.clear()
        self._server.forget(self)

    def answer(self, message: bytes) -> bytes:
        """The answer to one message of a client's request.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: It is damaged, or for other keys.
            UnexpectedMessage: Its request is unknown, or another round's turn.
            InvalidInput: It asks for what is not served, or for modules that take different inputs.
            LimitExceeded: It is larger than offered, or there are as many requests as there may be.
        """
        start = time.perf_counter_ns()
        session, upload = self._read(message)
        fingerprint = hashlib.sha256(message).digest()
        self._drop_idle()
        held = self._held.get(upload.request)
        if held is not None and held.upload == fingerprint:
            held.touched = self._server.clock()
            return held.answer
        if held is None:
            held = self._begun(upload)
        else:
            self._require_turn(held, upload)
        ledger = Ledger()
        computed = self._computed(held, session.with_ledger(ledger), upload)
        executed = ledger.counts()
        predicted = OperationCounts()
        for each in held.modules:
            predicted = predicted.plus(each.plan.rounds[upload.number].server_counts.times(each.plan.runs(held.tokens)))
        require_counts("the server", executed, predicted)
        elapsed = time.perf_counter_ns() - start
        download = Download(upload.request, upload.number, computed, executed, elapsed)
        held.answer = session.seal(PayloadKind.DOWNLOAD, encode(download))
        held.upload, held.number, held.touched = fingerprint, upload.number + 1, self._server.clock()
        if all(run.done for run in held.runs):
            held.runs = []
        self._held[upload.request] = held
        self._held.move_to_end(upload.request)
        self._make_room()
        self._tell(held, executed, elapsed)
        return held.answer

    def _read(self, message: bytes) -> tuple[ServerSession, Upload]:
        from helora_core.backend import envelope

        limit = self._server.limits.message_bytes
        opened = envelope.opened(PayloadKind.UPLOAD, None, message, origin=self._server.origin, most_bytes=limit)
        session = self._by_key.get(opened.key_id)
        if session is None:
            raise ForeignCiphertext(
                "Session: the message is for other keys than this session's, or the session is closed.",
                hint="Send each client's messages to the session that its keys opened.",
            )
        return session, decode(opened.payload, Upload)

    def _begun(self, upload: Upload) -> _Held:
        if upload.number != 0:
            raise UnexpectedMessage(
                f"Session: round {upload.number} of a request that is not known here, or no more.",
                hint="Begin the request again.",
            )
        if not 0 < upload.tokens <= self._server.limits.tokens:
            raise LimitExceeded(
                f"Session: a request for {upload.tokens} tokens; 1 to {self._server.limits.tokens} are served at once.",
                hint="Send fewer tokens a request.",
            )
        # What a client sends is not repeated: a log has no place for it.
        unknown = [name for name in upload.modules if name not in self._server.modules]
        if unknown or not upload.modules or len(set(upload.modules)) < len(upload.modules):
            raise InvalidInput(
                f"Session: the request names {len(upload.modules)} modules, {len(unknown)} of which are not served.",
                hint="Ask for modules of the offer, each once.",
            )
        modules = tuple(self._server.modules[name] for name in upload.modules)
        require_one_input(modules)
        if self.in_flight >= self._server.limits.requests:
            raise LimitExceeded(
                f"Session: {self._server.limits.requests} requests are in flight, and no more may be.",
                hint="Finish one first.",
            )
        runs = [
            Execution(each.plan, constants)
            for each, constants in zip(modules, map(self._server.weights, upload.modules), strict=True)
            for _ in range(each.plan.runs(upload.tokens))
        ]
        return _Held(b"", b"", upload.modules, modules, upload.tokens, runs, 0, self._server.clock())

    def _require_turn(self, held: _Held, upload: Upload) -> None:
        same = (upload.modules, upload.tokens) == (held.names, held.tokens)
        same = same and upload.follows == hashlib.sha256(held.answer).digest()
        if upload.number == held.number and held.runs and same:
            return
        raise UnexpectedMessage(
            f"Session: round {upload.number} of a request that awaits "
            f"{f'round {held.number}' if held.runs else 'nothing more'}, or one that follows another answer.",
            hint="Repeat a message as it was, byte for byte; or begin the request again.",
        )

    def _computed(self, held: _Held, session: ServerSession, upload: Upload) -> tuple[tuple[bytes, ...], ...]:
        runs = held.runs
        shared = upload.number == 0
        expected = held.modules[0].plan.runs(held.tokens) if shared else len(runs)
        if len(upload.ciphertexts) != expected:
            raise CorruptPayload(
                f"Session: the message holds {len(upload.ciphertexts)} runs, and its request has {expected}.",
                hint="Use the same version of helora on both sides.",
            )
        inputs = [[session.deserialize(payload) for payload in payloads] for payloads in upload.ciphertexts]
        if shared:
            inputs = inputs * len(held.modules)
        try:
            outputs = [run.proceed(session, given) for run, given in zip(runs, inputs, strict=True)]
        except BaseException:
            self._held.pop(upload.request, None)  # some of its runs are in the next round, and others are not
            raise
        return tuple(tuple(session.serialize(each) for each in of_run) for of_run in outputs)

    def _drop_idle(self) -> None:
        now, limits = self._server.clock(), self._server.limits
        for name in [name for name, held in self._held.items() if now - held.touched > limits.idle_s]:
            del self._held[name]

    def _make_room(self) -> None:
        """Drop answers that were given longest ago, as far as their requests are over."""
        limits = self._server.limits
        over = [name for name, held in self._held.items() if not held.runs][:-1]
        for name in over:
            if len(self._held) <= limits.requests and self.kept_bytes <= limits.kept_bytes:
                return
            del self._held[name]

    def _tell(self, held: _Held, executed: OperationCounts, elapsed: int) -> None:
        self._server.telemetry.emit(
            "round.executed",
            elapsed,
            backend=self._server.backend.name,
            modules=len(held.modules),
            plan=held.modules[0].plan.digest,
            tokens=held.tokens,
            keyswitches=executed.keyswitches,
        )


def require_one_input(modules: Sequence[CompiledModule]) -> None:
    """Check that modules take the same ciphertexts.

    Raises:
        InvalidInput: Their plans' input signatures or numbers of rounds differ.
    """
    first, *others = modules
    for each in others:
        alike = each.plan.digest == first.plan.digest or each.plan.input_signature == first.plan.input_signature
        if not alike or len(each.plan.rounds) != len(first.plan.rounds):
            raise InvalidInput(
                f"Modules {first.name} and {each.name} do not take the same ciphertexts.",
                hint="Ask for them one by one, or compile them with one packing and one shape.",
            )
