"""Requests that use up correlations: one message up and one down, without encryption. Sans-IO, like all requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from helora_core.backend.checked_backend import CheckedBackend
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.exponents import normalized_tokens
from helora_core.compiler.plan import Plan
from helora_core.errors import CorruptPayload
from helora_core.execution import modular
from helora_core.packing.protocol import Vector
from helora_core.parties.channel import Channel
from helora_core.parties.client_run import RunResult
from helora_core.parties.limits import ServerLimits
from helora_core.parties.pool import Taken
from helora_core.parties.request import AskedModule, Received, Request
from helora_core.parties.store import Ticket


class MaskedRequest(Request):
    """A request that uses correlations.

    Args:
        asked, x, wanted: As for ``Request``; at least one module's Δ is not zero.
        channel: The client's channel for the modules' parameters.
        backend: The backend.
        taken: A correlation for each token.
        ticket: The writes that have to be durable so that they are not taken again.
    """

    def __init__(
        self,
        asked: Sequence[AskedModule],
        channel: Channel,
        backend: CheckedBackend,
        x: Vector,
        *,
        wanted: Sequence[str],
        taken: Taken,
        ticket: Ticket,
    ) -> None:
        self._taken, self._backend = taken, backend
        super().__init__(asked, channel, x, wanted=wanted)
        self._ticket = ticket

    def _start(self, x: Vector) -> OperationCounts:
        self._correlations = self._tokens
        scaled, self._exponents = normalized_tokens(x)
        self._nothing = np.logical_not(scaled.any(axis=1))
        plan = self._alive[0].plan
        y = modular.online_of(plan).integers(scaled) - self._taken.pads
        self._number = len(plan.rounds) - 1
        self._send([[y.tobytes()]], spans=self._taken.spans)
        return OperationCounts()

    def _expected(self) -> list[int]:
        return [1] * len(self._alive)

    def _predicted(self) -> OperationCounts:
        return OperationCounts()

    def _take(self, received: Received, follows: bytes) -> OperationCounts:
        answers = {each.name: payloads[0] for each, payloads in zip(self._alive, received, strict=True)}
        self._settle({each.name: self._result(each, answers.get(each.name)) for each in self._asked})
        self._taken = Taken((), self._taken.pads[:0], {})
        return OperationCounts()

    def _result(self, each: AskedModule, answer: bytes | None) -> RunResult:
        plan = each.plan
        delta, bound = np.zeros((self._tokens, plan.shape.d_out)), 0.0
        if answer is not None:
            online = modular.online_of(plan)
            if len(answer) != -(-self._tokens * online.outputs * online.how.top_bits // 8):
                raise CorruptPayload(
                    f"Request: the answer holds other numbers than those of {self._tokens} tokens.",
                    hint="Use the same version of helora on both sides.",
                )
            v = self._backend.unpack(answer, self._tokens * online.outputs, online.how.top_bits)
            delta = online.delta(v.reshape(self._tokens, online.outputs), self._taken.masked[each.name])
            bound = plan.precision().error_bound
        exponents = self._exponents + (plan.exponent or 0)
        return RunResult(
            delta=np.where(self._nothing[:, np.newaxis], 0.0, np.ldexp(delta, exponents[:, np.newaxis])),
            error_bound=np.where(self._nothing, 0.0, np.ldexp(bound, exponents)),
        )


def tokens_within(plan: Plan, message_bytes: int, overhead_bytes: int) -> int:
    """How many tokens' masked activations fit in a message with its overhead; but no more than servers take
    at once by default, since correlations of a refused request are used up.
    """
    online = modular.online_of(plan)
    fitting = math.floor((message_bytes - overhead_bytes) / (8 * max(online.inputs, online.outputs)))
    return max(1, min(fitting, ServerLimits().tokens))
