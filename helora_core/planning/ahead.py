"""What a plan that runs ahead of time costs before x is there: whole batches, spread over the tokens that use them.

A batch makes correlations for N tokens. How many of them are going to be used is for the user to say (``--ahead``); if
nobody does, it is the tokens of the request alone, which then pay for whole batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from helora_core.compiler.phases import Traffic, kept_bytes
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import Constraints
from helora_core.errors import BudgetExceeded
from helora_core.planning.charges import Charge


def expected_tokens(tokens: int, ahead: int | None) -> int:
    """The tokens that are expected to use what is prepared: those of the request at least."""
    return max(tokens, ahead or 0)


def charged_runs(plan: Plan, tokens: int, ahead: int | None) -> float:
    """Executions that so many tokens pay for: all of theirs, or ahead of time their share of the batches."""
    if plan.correlation is None:
        return plan.runs(tokens)
    expected = expected_tokens(tokens, ahead)
    return plan.runs(expected) * tokens / expected


@dataclass(frozen=True)
class Ahead:
    """Batches that are prepared for some tokens.

    Attributes:
        size: Tokens of a batch.
        expected: Tokens that are expected to be used.
        client_ms, server_ms: What a batch takes.
        batch_bytes: What a batch moves.
        kept_bytes: Bytes that the client keeps for a token until it is used.
    """

    size: int
    expected: int
    client_ms: float
    server_ms: float
    batch_bytes: Traffic
    kept_bytes: int

    @classmethod
    def of(cls, plan: Plan, expected: int, *, client_ms: float, server_ms: float) -> Ahead:
        """The batches of a plan that has some."""
        assert plan.correlation is not None
        kept = kept_bytes(plan.program, plan.correlation)
        return cls(plan.tokens_per_run, expected, client_ms, server_ms, plan.ahead_bytes, kept)

    @property
    def batches(self) -> int:
        """How many are prepared."""
        return -(-self.expected // self.size)

    @property
    def batch_ms(self) -> float:
        """A batch, on both sides."""
        return self.client_ms + self.server_ms

    @property
    def ms_per_token(self) -> float:
        """Spread over the tokens that are used."""
        return self._spread(self.batch_ms)

    @property
    def bytes_per_token(self) -> tuple[float, float]:
        """Bytes up and down, likewise."""
        return self._spread(self.batch_bytes.up), self._spread(self.batch_bytes.down)

    def _spread(self, of_batch: float) -> float:
        return self.batches * of_batch / self.expected

    def pays_from(self, online_ms: float, other_ms: float) -> int | None:
        """The tokens from which on, for every number, batches and online rounds take no longer than another plan.

        Just beyond a full batch nearly all of the next one is unused: if it does not pay there, it pays from some later
        batch on, or never.

        Args:
            online_ms: What a token takes online.
            other_ms: What it takes by the other plan.
        """
        saved = other_ms - online_ms
        if saved <= 0:
            return None if self.batch_ms or saved else 1
        least = self.batch_ms / saved  # tokens that earn one batch
        if least >= self.size:
            return None
        full = max(0, math.ceil((least - 1) / (self.size - least)))  # batches after which the next one pays at once
        return max(1, math.ceil(full * least))


def client_charges(plan: Plan) -> Iterator[Charge]:
    """A batch at the client."""
    yield from _named(plan, ahead_key=1, ahead_draw=_features(plan), ahead_encrypt=_features(plan))
    yield from _named(plan, **{f"ahead_decrypt{_ending(plan)}": _outputs(plan)})


def server_charges(plan: Plan) -> Iterator[Charge]:
    """A batch at the server."""
    rank, features, outputs = plan.shape.rank, _features(plan), _outputs(plan)
    yield from _named(plan, ahead_sums=1, ahead_receive=features, ahead_multiply_down=rank * features)
    yield from _named(plan, ahead_draw=outputs, ahead_multiply_up=rank * outputs)
    yield from _named(plan, **{f"ahead_result{_ending(plan)}": outputs})


def padding_charges(plan: Plan, tokens: int) -> Iterator[Charge]:
    """A request at the client, up."""
    return _named(plan, online_pad=plan.runs(tokens), online_pad_word=tokens * _features(plan))


def answer_charges(plan: Plan, tokens: int) -> Iterator[Charge]:
    """A request at the server."""
    words = plan.shape.rank * (_features(plan) + _outputs(plan))
    yield from _named(plan, online_answer=plan.runs(tokens), online_multiply=tokens * words)
    yield from _named(plan, online_answer_word=tokens * _outputs(plan))


def opening_charges(plan: Plan, tokens: int) -> Iterator[Charge]:
    """A request at the client, down."""
    return _named(plan, online_open=plan.runs(tokens), online_open_word=tokens * _outputs(plan))


def _named(plan: Plan, **times: int) -> Iterator[Charge]:
    return ((name, plan.params.max_level, count) for name, count in times.items())


def _features(plan: Plan) -> int:
    return len(plan.program.inputs)


def _outputs(plan: Plan) -> int:
    return len(plan.program.results)


def _ending(plan: Plan) -> str:
    return "_exact" if plan.correlation is not None and plan.correlation.how.exact else ""


def check_bytes(plan: Plan, tokens: int, constraints: Constraints) -> None:
    """Check the bytes of both phases together against the budget; of a plan without batches, nothing.

    Raises:
        BudgetExceeded: The hint says how many tokens would have to use a batch, if that helps.
    """
    allowed = constraints.budget.bytes
    if allowed is None or plan.correlation is None:
        return
    batch, online = sum(plan.ahead_bytes), sum(plan.bytes_for(tokens)) / tokens
    ahead = charged_runs(plan, tokens, constraints.ahead) * batch / tokens
    if online + ahead <= allowed:
        return
    enough = math.ceil(batch / (allowed - online)) if allowed > online else math.inf
    hint = "Raise the budget, or use a packing that runs online."
    if enough <= plan.tokens_per_run:
        hint = f"It fits if {enough} tokens of each batch are used, which --ahead TOKENS says; or raise the budget."
    said = f"Budget: {online + ahead:.0f} bytes per token (budget {allowed:g}), {ahead:.0f} of them ahead of time."
    raise BudgetExceeded(said, hint=hint)
