"""Mode ``hosted``, put together: what answers, who is counted, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from helora_serve.budget import Budget
from helora_serve.hosted.compare import InThread
from helora_serve.hosted.models import HostedModels
from helora_serve.hosted.whole import Whole
from helora_serve.limits import Limits
from helora_serve.metering import Meter
from helora_serve.metrics import Metrics
from helora_serve.mode import HOSTED
from helora_serve.proxy.answering import Answering
from helora_serve.proxy.turns import Turns

_LOG = logging.getLogger("helora.serve.hosted")


class Hosted:
    """Whole models and who asks them.

    Args:
        whole: The model.
        run: Has work done in its thread.
        in_turn: The same, for threads.
        limits: The limits.
        metrics: Counts.
        budget: The tokens that each client has had.

    Attributes:
        whole, run, limits: The same.
        answering: Answers one request after another.
        comparing: One comparison after another has its turn.
        meter: Counts clients' tokens.
    """

    def __init__(
        self,
        whole: Whole,
        run: InThread,
        in_turn: Callable[[Callable[[], Any]], Any],
        limits: Limits,
        metrics: Metrics,
        budget: Budget,
    ) -> None:
        self.whole, self.run, self.limits, self._metrics = whole, run, limits, metrics
        self.answering = Answering(HostedModels(whole, in_turn, limits), waiting=limits.hosted_waiting)
        self.comparing = Turns(limits.hosted_waiting)
        self.meter = Meter(budget, metrics, HOSTED, _half_used)

    @property
    def names(self) -> tuple[str, ...]:
        """What can be asked, as OpenAI's API names models."""
        return self.answering.models.names

    def noted(self, what: dict[str, Any]) -> None:
        """An answer has ended."""
        code = {"answered": "", "cancelled": "cancelled"}.get(what["event"]) or what.get("code") or ""
        given, answered = what.get("prompt_tokens", 0), what.get("completion_tokens", 0)
        self._metrics.count_hosted(code, given, answered, what["seconds"])
        _LOG.info("%s: %d prompt tokens, %d answered", code or "answered", given, answered)

    async def drain(self) -> None:
        """Answer nothing more, and wait for what is being answered, as long as the limits allow."""
        self.answering.drain()
        self.comparing.close()
        deadline = time.monotonic() + self.limits.drain_s
        while (self.answering.busy or self.comparing.taken) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.answering.stop()

    def close(self) -> None:
        """Wait for the token on its way; before the model's thread ends."""
        self.answering.stop()
        self.answering.close()


def _half_used(queries: int, limit: int) -> None:
    _LOG.warning("a client has had %d tokens of an adapter, and may have %d", queries, limit)
