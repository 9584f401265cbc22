"""Requests that use up correlations: one short message up and one down, without encryption. Sans-IO, like all requests.

Every token of every layer is such a request, so what does not change from one to the next is worked out once, in a
``Route``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.exponents import normalized_tokens
from helora_core.compiler.plan import Plan
from helora_core.errors import CorruptPayload, UnexpectedMessage
from helora_core.execution.modular import online_of
from helora_core.packing.protocol import Vector
from helora_core.parties.channel import Channel
from helora_core.parties.client_run import RunResult
from helora_core.parties.limits import ServerLimits
from helora_core.parties.messages import MOST_MESSAGE_BYTES, MaskedDownload, MaskedUpload, decode, encode
from helora_core.parties.pool import Taken
from helora_core.parties.request import AskedModule, Request
from helora_core.parties.request_report import PhaseTimes, Report
from helora_core.parties.store import Ticket


class Route:
    """Modules of one input that are asked for together, and the parts that are wanted of them.

    Args:
        asked: The modules, by one plan each; at least one module's Δ is not zero.
        wanted: The parts.
        channel: The client's channel for their parameters.
        library: The backend's correlations.
    """

    def __init__(
        self, asked: Sequence[AskedModule], wanted: Sequence[str], channel: Channel, library: CheckedCorrelations
    ) -> None:
        self.asked = tuple(asked)
        self.alive = tuple(each for each in asked if not each.plan.is_zero)
        self.wanted = tuple(wanted)
        self.channel, self.library = channel, library
        self.plan = self.alive[0].plan
        self.digests = {each.name: each.plan.digest for each in self.alive}
        self.turns = [online_of(each.plan) for each in self.alive]
        self.bounds = {each.name: each.plan.precision().error_bound for each in self.alive}


class MaskedRequest(Request):
    """A request that uses correlations.

    Args:
        route: The modules.
        x: Activations, float64, checked, shape (tokens, d_in).
        taken: A correlation for each token.
        ticket: The writes that have to be durable so that they are not taken again.
    """

    def __init__(self, route: Route, x: Vector, *, taken: Taken, ticket: Ticket) -> None:
        start = time.perf_counter_ns()
        self._route, self._taken, self._ticket, self._asked = route, taken, ticket, route.asked
        self.wanted = route.wanted
        self._deltas: dict[str, Vector] | None = None
        self._bounds: dict[str, Vector] = {}
        self._tokens = len(x)
        scaled, self._exponents = normalized_tokens(x)
        y = route.turns[0].integers(scaled) - taken.pads
        upload = MaskedUpload(taken.spans, tuple(taken.places[each.name] for each in route.alive), y.tobytes())
        self._message = message = route.channel.seal(PayloadKind.MASKED_UPLOAD, encode(upload))
        self._nothing = None if scaled.any(axis=1).all() else np.logical_not(scaled.any(axis=1))
        self._times = PhaseTimes(encrypt=time.perf_counter_ns() - start)
        self._bytes_up, self._bytes_down = len(message), 0

    def message(self) -> bytes:
        """The bytes to send now: the same until the answer to them is received. Errors are those of ``Exchange``."""
        if self._deltas is not None or self._message is None:
            raise UnexpectedMessage("Request: it is already done.", hint="Read its result, or begin another one.")
        self._ticket.require("Request")
        return self._message

    def receive(self, answer: bytes) -> None:
        """Take the server's answer. A refused answer changes nothing. Errors are those of ``Exchange``."""
        start = time.perf_counter_ns()
        if self._deltas is not None:
            raise UnexpectedMessage("Request: it is done, and an answer came.", hint="Drop the answer.")
        opened = self._route.channel.open(PayloadKind.MASKED_DOWNLOAD, answer, most_bytes=MOST_MESSAGE_BYTES)
        download = decode(opened, MaskedDownload)
        first = self._taken.spans[0]
        if (download.batch, download.start) != (first.batch, first.start):
            raise UnexpectedMessage(
                "Request: the answer is to another one.", hint="Give each answer to the request that it is for."
            )
        self._settle(self._results(download.results))
        self._taken = Taken((), self._taken.pads[:0], {}, {})
        self._bytes_down = len(answer)
        self._times.compute = download.elapsed_ns
        self._times.decrypt = time.perf_counter_ns() - start

    @property
    def report(self) -> Report:
        """What it took so far."""
        return Report(
            executed=OperationCounts(),
            times=self._times,
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            round_trips=int(self.done),
            correlations=self._tokens,
        )

    def _results(self, answers: Sequence[bytes]) -> dict[str, RunResult]:
        """The result of each module."""
        route, tokens, found = self._route, self._tokens, {}
        if len(answers) != len(route.alive):
            raise self._other_numbers()
        rest = iter(zip(route.turns, answers, strict=True))
        for each in route.asked:
            exponents = self._exponents + (each.plan.exponent or 0)
            if each.name in route.bounds:
                turn, answer = next(rest)
                if len(answer) != turn.answer_bytes(tokens):
                    raise self._other_numbers()
                v = route.library.unpack(answer, tokens * turn.outputs, turn.answer_bits)
                delta = turn.delta(v.reshape(tokens, turn.outputs), self._taken.masked[each.name], exponents)
                bounds = np.ldexp(route.bounds[each.name], exponents)
            else:
                delta, bounds = np.zeros((tokens, each.plan.shape.d_out)), np.zeros(tokens)
            if self._nothing is not None:  # values known to be zero are returned as zero
                delta[self._nothing], bounds[self._nothing] = 0.0, 0.0
            found[each.name] = RunResult(delta=delta, error_bound=bounds)
        return found

    def _other_numbers(self) -> CorruptPayload:
        return CorruptPayload(
            f"Request: the answer holds other numbers than those of {self._tokens} tokens.",
            hint="Use the same version of helora on both sides.",
        )


def tokens_within(plan: Plan, message_bytes: int, overhead_bytes: int) -> int:
    """How many tokens' masked activations fit in a message with its overhead; but no more than servers take
    at once by default, since correlations of a refused request are used up.
    """
    turn = online_of(plan)
    fitting = math.floor((message_bytes - overhead_bytes) / (8 * max(turn.inputs, turn.outputs)))
    return max(1, min(fitting, ServerLimits().tokens))
