"""A plan with its keys and weights, for benchmarks that run this commit's plans repeatedly."""

from __future__ import annotations

from typing import Any

from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.session import open_sessions
from helora_core.compiler.plan import Plan
from helora_core.execution.constants import encode_constants
from helora_core.packing.protocol import Vector
from helora_core.parties.module_run import ModuleRun, run_module

_MODULE, _ACTIVATIONS = 1, 2
"""Seeds: the same numbers wherever a shape is measured."""


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

    def run(self, x: Vector) -> ModuleRun:
        """All tokens of ``x``, with a ledger of their own."""
        owner = self.module if self.plan.packing.client_finishes else None
        return run_module(self.plan, self._constants, self._client, self._server, x, client_module=owner)
