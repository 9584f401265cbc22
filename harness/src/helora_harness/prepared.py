"""A plan with its keys and weights, for benchmarks that run this commit's plans repeatedly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import open_sessions
from helora_core.compiler.plan import Plan
from helora_core.execution.constants import encode_constants
from helora_core.execution.executor import Execution
from helora_core.packing.protocol import Vector
from helora_core.parties.client_run import ClientRun
from helora_core.parties.module_run import ModuleRun, run_module

_MODULE, _ACTIVATIONS = 1, 2
"""Seeds: the same numbers wherever a shape is measured."""


@dataclass(frozen=True)
class ServedOnce:
    """What a server does for a run: read ciphertexts, run the program on them and sanitise, serialise the results."""

    read: Callable[[], list[Any]]
    compute: Callable[[], list[Any]]
    write: Callable[[], list[bytes]]


class PreparedPlan:
    """A synthetic module of the plan's shape, encoded, and both sessions.

    Args:
        backend: The backend to run on.
        plan: The plan, for what that backend can do.
    """

    def __init__(self, backend: Any, plan: Plan) -> None:
        self.plan = plan
        self.module = synthetic_module(plan.shape, seed=_MODULE)
        self._client, self._server = open_sessions(
            backend, plan.params, plan.rotation_steps, public_key=plan.needs_public_key
        )
        self._constants = encode_constants(plan, self.module, self._server.encoder)

    def activations(self, tokens: int) -> Vector:
        """Synthetic activations, float64, shape (tokens, d_in)."""
        return synthetic_activations(self.plan.shape, tokens, seed=_ACTIVATIONS)

    def served(self, x: Vector) -> ServedOnce:
        """The server's part of a run of one round, in pieces that can be repeated."""
        ledger, plan = Ledger(), self.plan.with_exponent(self._constants.exponent)
        server = self._server.with_ledger(ledger)
        upload = ClientRun(plan, x).inputs(self._client.with_ledger(ledger))

        def read() -> list[Any]:
            return [server.deserialize(payload) for payload in upload]

        received = read()

        def compute() -> list[Any]:
            return Execution(plan, self._constants).proceed(server, list(received))

        results = compute()
        return ServedOnce(read, compute, lambda: [server.serialize(result) for result in results])

    def run(self, x: Vector) -> ModuleRun:
        """All tokens of ``x``, with a ledger of their own."""
        owner = self.module if self.plan.packing.client_finishes else None
        return run_module(self.plan, self._constants, self._client, self._server, x, client_module=owner)
