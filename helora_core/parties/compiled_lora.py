"""A compiled adapter: the result of ``helora_core.compile``, from which client and server are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.protocol import Backend
from helora_core.compiler.compiled import CompiledModule, by_name
from helora_core.compiler.key_sets import KeySet, key_sets
from helora_core.compiler.request import PlanRequest
from helora_core.parties.client import Client
from helora_core.parties.limits import ServerLimits
from helora_core.parties.store import Store
from helora_core.planning.compiling import plan_cache
from helora_core.planning.savings import SharedInput, shared_input
from helora_core.privacy.leakage import Assumption

if TYPE_CHECKING:
    from helora_core.parties.server import Server
    from helora_core.parties.session import Session


@dataclass(frozen=True)
class CompiledLoRA:
    """Modules with their plans, on a backend.

    Attributes:
        modules: The modules; several of one input as one, if asked for. A module with plans for several numbers
            of tokens appears once for each plan.
        backend: The CKKS library.
        secure: Whether the backend encrypts at all: an emulation does not.
        private_weights: Whether the plans keep the weights from the key holder.
        assume: What the owner of the weights accepts as true of every client.
        alone: By a module's name, the requests that compile each of its parts on its own.
    """

    modules: tuple[CompiledModule, ...]
    backend: Backend
    secure: bool
    private_weights: bool = True
    assume: frozenset[Assumption] = frozenset()
    alone: Mapping[str, tuple[PlanRequest, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        private = "private weights" if self.private_weights else "weights shown to the key holder"
        return f"<CompiledLoRA of {len(self.by_name)} modules on {self.backend.name}, {private}>"

    @property
    def by_name(self) -> dict[str, tuple[CompiledModule, ...]]:
        """The modules by name, each with its plans."""
        return by_name(self.modules)

    @property
    def key_sets(self) -> tuple[KeySet, ...]:
        """The keys that a client makes: a set for all plans of equal parameters."""
        return key_sets([each.plan for each in self.modules])

    def shared_inputs(self) -> dict[str, tuple[SharedInput, ...]]:
        """What one encrypted input for several modules saves, per token, compared with one for each.

        Returns:
            For every module that was made of several, by name, and each of its plans. The parts are compiled on their
            own for it, now.
        """
        return shared_inputs(self.modules, self.alone)

    def open(self) -> tuple[Client, Session]:
        """Both parties in this process, to try it out: a client with keys, and its session at a server.

        Raises:
            InsecureParameters, CapabilityMissing, …: As ``Client`` and ``Server`` do.
        """
        server = self.server()
        client = self.client(server.offer())
        return client, server.open(client.evaluation_keys())

    def server(self, *, limits: ServerLimits | None = None, store: Store | None = None) -> Server:
        """The server of these modules: it has the weights. Arguments are those of ``Server``."""
        from helora_core.parties.server import Server

        return Server(self, limits=limits, store=store)

    def client(self, offer: bytes, *, store: Store | None = None, low_water: int = 0) -> Client:
        """A client of the same owner: it gets the adapter in the clear, if a packing needs that and it is allowed.
        Arguments are those of ``Client``.
        """
        owned = {each.name: each.module for each in self.modules if isinstance(each.module, LoRAModule)}
        highest = max(each.plan.verdict.asked_bits for each in self.modules)
        return Client(
            offer,
            backend=self.backend,
            adapter=None if self.private_weights else owned,
            security_bits=highest,
            table=self.modules[0].plan.verdict.table,
            store=store,
            low_water=low_water,
        )

    def save(
        self, directory: Path, *, replace: bool = False, on_constant: Callable[[int], object] = lambda count: None
    ) -> str:
        """Write everything that a server needs to run without the adapter, and return the artifact's digest.

        Raises:
            InvalidInput: ``directory`` already exists and is not empty, or a plan cannot be run without the adapter.
        """
        from helora_core.artifact.write import write_artifact

        return write_artifact(directory, self.modules, replace=replace, on_constant=on_constant).digest


def shared_inputs(
    modules: Sequence[CompiledModule], alone: Mapping[str, Sequence[PlanRequest]]
) -> dict[str, tuple[SharedInput, ...]]:
    """The result of ``CompiledLoRA.shared_inputs``.

    Args:
        modules: The modules.
        alone: By name, the requests that compile each part on its own.
    """
    cache = plan_cache()
    return {
        name: tuple(shared_input(each.plan, each.plan.tokens, alone[name], cache) for each in plans)
        for name, plans in by_name(modules).items()
        if len(alone.get(name, ())) > 1
    }
