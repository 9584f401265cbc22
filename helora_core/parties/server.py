"""The server: an adapter's weights, encoded once, and a session for each client.

Sans-IO: bytes in, bytes out. No type here holds a secret key or can make one.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from helora_core.artifact.plan_file import Demands
from helora_core.backend.checked_backend import CheckedBackend
from helora_core.backend.ledger import Ledger
from helora_core.backend.limits import MessageLimits
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ServerSession
from helora_core.compiler.compiled import CompiledModule
from helora_core.errors import LimitExceeded
from helora_core.execution.constants import ConstantCache
from helora_core.execution.telemetry import Telemetry
from helora_core.params.ckks import CKKSParams
from helora_core.parties.batches import AllBatches
from helora_core.parties.channel import Channel
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.key_bundle import read_bundle
from helora_core.parties.limits import ServerLimits
from helora_core.parties.offer import offer_of
from helora_core.parties.served import Served
from helora_core.parties.session import Admit, Session, admit_all
from helora_core.parties.several import accepted_by_all, one_backend, one_promise, sorted_out
from helora_core.parties.store import Store
from helora_core.parties.work import Keys
from helora_core.privacy.leakage import Assumption


class Server:
    """Serves compiled adapters on one backend. Weights are encoded when they are first asked for.

    Args:
        served: A compiled adapter; or several by name, as ``{"legal": one, "medical": other}``, whose modules are then
            asked for as ``legal/layers.0.self_attn.q_proj``, and which are answered from one encrypted input where
            their input signatures are equal. Or compiled modules by the name that clients ask for, each with one plan
            or several.
        backend: The CKKS library; the compiled adapters' if None.
        private_weights: Refuse plans that show weights to the key holder; False if it owns the adapter. As the
            adapters were compiled if None, and True for modules.
        assume: Assumptions that the adapter's owner accepts. As the adapters were compiled if None, and none for
            modules.
        limits: How much it holds for clients.
        constants: Cache of encoded weights, shared by all sessions.
        telemetry: Told of each round executed.
        clock: Seconds, monotonic.
        store: Where it keeps prepared correlations, so that clients can use them after a restart; None to lose them.
            Two servers in one process that follow each other share ``AllBatches`` of one store.

    Raises:
        LeakageRefused: A plan shows weights that must stay private, or assumes what is not accepted.
        CapabilityMissing: The backend lacks a capability that a plan needs.
        InvalidInput: There is nothing to serve, or no backend; or the adapters were compiled for different backends, or
            some keep their weights private and others do not.
    """

    def __init__(
        self,
        served: CompiledLoRA | Mapping[str, CompiledLoRA] | Mapping[str, CompiledModule | Sequence[CompiledModule]],
        backend: Backend | CheckedBackend | None = None,
        *,
        private_weights: bool | None = None,
        assume: Collection[Assumption] | None = None,
        limits: ServerLimits | None = None,
        constants: ConstantCache | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
        store: Store | AllBatches | None = None,
    ) -> None:
        loras, modules = sorted_out(served)
        self.served = Served(
            modules,
            backend or one_backend(loras),
            private_weights=one_promise(loras) if private_weights is None else private_weights,
            assume=accepted_by_all(loras) if assume is None else assume,
            limits=limits,
            constants=constants,
            telemetry=telemetry,
            clock=clock,
            store=store,
        )
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    @classmethod
    def load(
        cls,
        directory: str | Path | Mapping[str, str | Path],
        *,
        backend: str | None = None,
        allow_emulation: bool = False,
        limits: ServerLimits | None = None,
        demands: Demands | None = None,
        store: Store | AllBatches | None = None,
    ) -> Server:
        """The server of an artifact from ``CompiledLoRA.save`` or ``helora compile``, without the adapter.

        Args:
            directory: The artifact; or several by the names of adapters, as ``Server`` takes them.
            backend: Name of the backend; the best that can run all plans if None.
            allow_emulation: Let a backend be chosen that encrypts nothing.
            limits: How much the server holds for clients.
            demands: The demands on its plans, regardless of what the artifact states; the defaults are strict.
            store: As for ``Server``.

        Raises:
            ArtifactInvalid, ArtifactUnsupported, InsecureParameters, LeakageRefused: As ``read_artifact`` raises them.
            BackendUnavailable: No backend that encrypts can run the plans.
        """
        from helora_core.artifact.read import read_artifact
        from helora_core.host.manager import get_manager
        from helora_core.planning.selection import select_backend

        manager, demands = get_manager(), demands or Demands()
        directories = directory if isinstance(directory, Mapping) else {"": directory}
        found = {
            name: read_artifact(
                Path(each),
                manager.load_packing,
                private_weights=demands.private_weights,
                sanitize_bits=demands.sanitize_bits,
                security_bits=demands.security_bits,
                table=demands.table,
                assume=demands.assume,
            )
            for name, each in directories.items()
        }
        plans = [module.plan for artifact in found.values() for module in artifact.modules]
        chosen = select_backend(manager, backend, plans=plans, allow_emulation=allow_emulation)
        loras = {
            name: CompiledLoRA(
                tuple(module.compiled for module in artifact.modules),
                manager.load_backend(chosen.name),
                secure=chosen.secure,
                private_weights=demands.private_weights,
                assume=demands.assume,
            )
            for name, artifact in found.items()
        }
        return cls(loras if isinstance(directory, Mapping) else loras[""], limits=limits, store=store)

    @property
    def limits(self) -> ServerLimits:
        """How much it holds for clients."""
        return self.served.limits

    def offer(self) -> bytes:
        """Everything that a client has to know: public, and the same for all clients."""
        return offer_of(self.served.modules, self.served.origin, self.limits.message_bytes)

    def open(self, evaluation_keys: bytes, *, admit: Admit = admit_all) -> Session:
        """A session for the client of these keys. Sessions may be used in several threads at once, each in one.

        Args:
            evaluation_keys: The result of ``Client.evaluation_keys``.
            admit: Called with the modules and tokens of each request before anything is computed for it, and with those
                of a preparation before its first result is made; what it raises is the refusal. A message that comes
                again is answered without it.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: The keys are damaged, or not for this server's plans.
            LimitExceeded: As many sessions are open as the limits allow.
        """
        if len(self._sessions) >= self.limits.sessions:
            raise LimitExceeded(
                f"Server: {len(self._sessions)} sessions are open, and no more are allowed.",
                hint="Close one (session.close()), or raise ServerLimits.sessions.",
            )
        sets, backend = self.served.key_sets, self.served.backend
        limits = [MessageLimits.of(each.params, rotations=len(each.rotation_steps)) for each in sets]
        bundle = read_bundle(evaluation_keys, [each.key_bytes for each in limits])
        keys: dict[CKKSParams, Keys] = {}
        for each, sent, most in zip(sets, bundle, limits, strict=True):
            if each.params.wrap_bits:
                keys[each.params] = Channel.of(backend, each.params, sent)
            else:
                keys[each.params] = ServerSession.from_keys(backend, each.params, sent, ledger=Ledger(), limits=most)
        session = Session(self.served, keys, self._sessions.discard, admit)
        self._sessions.add(session)
        return session
