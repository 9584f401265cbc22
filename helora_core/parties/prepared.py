"""Requests that use up correlations: one short message up and one down, without encryption. Sans-IO, like all requests.

Every token of every layer is such a request, so what does not change from one to the next is worked out once, in a
``Route``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.compiled import split
from helora_core.compiler.exponents import quick_exponent, token_exponents
from helora_core.compiler.plan import Plan
from helora_core.errors import CorruptPayload, UnexpectedMessage
from helora_core.execution.modular import OnlineRound, online_of
from helora_core.packing.protocol import Vector
from helora_core.parties.batching import check_activations
from helora_core.parties.channel import Channel
from helora_core.parties.limits import ServerLimits
from helora_core.parties.messages import MOST_MESSAGE_BYTES, MaskedDownload, MaskedUpload, decode, encode
from helora_core.parties.pool import Pools, Taken
from helora_core.parties.request import AskedModule, Request
from helora_core.parties.request_report import PhaseTimes, Report
from helora_core.parties.store import Ticket


class Tokens(NamedTuple):
    """Activations.

    Attributes:
        x: float64, checked, shape (tokens, d_in).
        exponents: Of each token, ‖x‖₂ ≤ 2^exponent: shape (tokens,).
        nothing: Whether each is zero, bool, shape (tokens,); None if none is.
    """

    x: Vector
    exponents: NDArray[np.int64]
    nothing: NDArray[np.bool_] | None


class _Turn(NamedTuple):
    """What of a module does not change.

    Attributes:
        asked: The module.
        turn: Its online round; None if its Δ is zero.
        exponent: Its exponent.
        only: The name of its part, if that is all of it.
        bound: The bound on the error of a Δ of exponent 0.
    """

    asked: AskedModule
    turn: OnlineRound | None
    exponent: int
    only: str | None
    bound: float


class Route:
    """Modules of one input that are asked for together, and the parts that are wanted of them.

    Args:
        asked: The modules, by one plan each; at least one module's Δ is not zero.
        wanted: The parts.
        channel: The client's channel for their parameters.
        pools: The client's pools for them.
        library: The backend's correlations.
    """

    def __init__(
        self,
        asked: Sequence[AskedModule],
        wanted: Sequence[str],
        channel: Channel,
        pools: Pools,
        library: CheckedCorrelations,
    ) -> None:
        alive = [each for each in asked if not each.plan.is_zero]
        self.asked, self.wanted = tuple(asked), tuple(wanted)
        self.channel, self.pools, self.library = channel, pools, library
        self.plan = alive[0].plan
        self.digests = {each.name: each.plan.digest for each in alive}
        self.first = online_of(self.plan)
        self.turns = tuple(
            _Turn(
                asked=each,
                turn=None if each.plan.is_zero else online_of(each.plan),
                exponent=each.plan.exponent or 0,
                only=each.parts[0].name if len(each.parts) == 1 else None,
                bound=0.0 if each.plan.is_zero else each.plan.precision().error_bound,
            )
            for each in asked
        )
        self._one = (1, self.plan.shape.d_in)

    def tokens(self, x: NDArray[Any]) -> Tokens:
        """Activations as float64; errors are those of ``check_activations``."""
        given = np.asarray(x)
        if given.shape == self._one and given.dtype.kind == "f":
            row = given.astype(np.float64)
            quick = quick_exponent(row)
            if quick is not None:
                return Tokens(row, np.array([quick], dtype=np.int64), None)
        checked = check_activations(given, self.plan.shape, who=self.asked[0].name)
        nothing = np.logical_not(checked.any(axis=1))
        return Tokens(checked, token_exponents(checked), nothing if nothing.any() else None)


class MaskedRequest(Request):
    """A request that uses correlations.

    Args:
        route: The modules.
        tokens: Activations.
        taken: A correlation for each token; its pads are overwritten.
        ticket: The writes that have to be durable so that they are not taken again.
    """

    def __init__(self, route: Route, tokens: Tokens, *, taken: Taken, ticket: Ticket) -> None:
        start = time.perf_counter_ns()
        self._route, self._ticket, self._asked = route, ticket, route.asked
        self.wanted = route.wanted
        self._deltas: dict[str, Vector] | None = None
        self._tokens = len(tokens.x)
        self._exponents, self._nothing = tokens.exponents, tokens.nothing
        self._first, self._masked = taken.spans[0], taken.masked
        y = route.first.padded(route.library, tokens.x, tokens.exponents, taken.pads)
        taken.pads.fill(0)
        upload = encode(MaskedUpload(taken.spans, taken.places, y))
        self._message = message = route.channel.seal(PayloadKind.MASKED_UPLOAD, upload)
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
        if download.start != self._first.start or download.batch != self._first.batch:
            raise UnexpectedMessage(
                "Request: the answer is to another one.", hint="Give each answer to the request that it is for."
            )
        self._deltas = self._results(download.results)
        self._message, self._masked = None, {}
        self._bytes_down = len(answer)
        self._times.compute = download.elapsed_ns
        self._times.decrypt = time.perf_counter_ns() - start

    @property
    def error_bounds(self) -> dict[str, Vector]:
        """As ``Request.error_bounds``; empty until the answer is there."""
        return {} if self._deltas is None else {each.asked.name: self._bound(each) for each in self._route.turns}

    def _bound(self, each: _Turn) -> Vector:
        if each.turn is None:
            return np.zeros(self._tokens)
        bounds: Vector = np.ldexp(each.bound, self._exponents + each.exponent)
        return bounds if self._nothing is None else np.where(self._nothing, 0.0, bounds)

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

    def _results(self, answers: Sequence[bytes]) -> dict[str, Vector]:
        """Δ of each part."""
        route, at = self._route, 0
        found: dict[str, Vector] = {}
        if len(answers) != len(route.digests):
            raise self._other_numbers()
        for each in route.turns:
            asked, turn, exponent, only, _ = each
            if turn is None:
                delta = np.zeros((self._tokens, asked.plan.shape.d_out))
            else:
                delta = turn.delta(route.library, answers[at], self._masked[asked.name], self._exponents, exponent)
                at += 1
            if self._nothing is not None:  # values known to be zero are returned as zero
                delta[self._nothing] = 0.0
            if only is None:
                found |= split(delta, asked.parts)
            else:
                found[only] = delta
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
