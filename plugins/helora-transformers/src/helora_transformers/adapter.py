"""One adapter of a host, for one model: keys, a session, pools, and Δ for groups of modules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput, PoolEmpty
from helora_core.parties.client import Client
from helora_core.parties.refill import Refill
from helora_core.parties.result import Link, Result
from helora_transformers.bank import Bank, OfferedAdapter
from helora_transformers.report import Meter

_WAIT_S = 0.02


class Fallback(str, Enum):
    """What is done when the pool of what was prepared ahead of time has too little."""

    REFUSE = "refuse"
    """The generation fails."""
    WAIT = "wait"
    """It waits for the refill."""
    ONLINE = "online"
    """It goes on with plans that run online."""


@dataclass(frozen=True)
class Ahead:
    """How much is prepared ahead of time.

    Attributes:
        tokens: What pools are filled to, before the first token and again in the background; 0 for nothing.
        fallback: What is done when a pool has too little.
    """

    tokens: int = 0
    fallback: Fallback = Fallback.REFUSE

    @property
    def low_water(self) -> int:
        """A pool with fewer correlations is filled again."""
        return max(1, self.tokens // 4)


class Sources(NamedTuple):
    """What the client asks for, for one group of modules.

    Attributes:
        ahead: By plans that run ahead of time; empty if nothing is prepared.
        online: By plans that run online; empty if the host has none.
    """

    ahead: tuple[str, ...]
    online: tuple[str, ...]


class TimedLink:
    """A link, and how long its answers took in this thread.

    Args:
        link: A session, or what carries messages to one.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._local = threading.local()

    @property
    def elapsed_ns(self) -> int:
        """Since ``start``, in this thread."""
        return int(getattr(self._local, "elapsed", 0))

    def start(self) -> None:
        """Count from zero, in this thread."""
        self._local.elapsed = 0

    def answer(self, message: bytes) -> bytes:
        """The answer to a message."""
        start = time.perf_counter_ns()
        try:
            return self.link.answer(message)
        finally:
            self._local.elapsed = self.elapsed_ns + time.perf_counter_ns() - start


class Adapter:
    """Gives Δ of an adapter's modules.

    Args:
        host: What has the adapter.
        client: The client made of the host's offer.
        offered: The adapter.
        groups: Names of the model's modules that read one input, together.
        ahead: How much is prepared ahead of time.
        on_prepared: Called with the share that is prepared, 0 to 1, for progress bars.

    Raises:
        InvalidInput: Something is to be prepared, and the host has no plans for it; or nothing is, and it has no
            others.
    """

    def __init__(
        self,
        host: Bank,
        client: Client,
        offered: OfferedAdapter,
        groups: Sequence[Sequence[str]],
        *,
        ahead: Ahead,
        on_prepared: Callable[[float], object] = lambda share: None,
    ) -> None:
        _require_plans(offered, ahead)
        self.offered, self.client = offered, client
        self.groups = [tuple(group) for group in groups]
        self.meter = Meter(self.groups[0])
        self._host, self._ahead = host, ahead
        self._keys = client.evaluation_keys()
        self._link = TimedLink(host.open(self._keys))
        self._lock = threading.Lock()
        self._refill: Refill | None = None
        self._sources = {
            group: Sources(
                _named(offered.ahead, group) if ahead.tokens else (),
                _named(offered.names, group),
            )
            for group in self.groups
        }
        try:
            if ahead.tokens:
                self._prepare(on_prepared)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans in use: those that run ahead of time first, if any do."""
        used = [name for each in self._sources.values() for name in each.ahead or each.online]
        if self._ahead.fallback is Fallback.ONLINE:
            used += [name for each in self._sources.values() for name in each.online]
        return tuple(plan for name in used for plan in self.client.plans_of(name))

    @property
    def keys_bytes(self) -> int:
        """Bytes of the evaluation keys."""
        return len(self._keys)

    @cached_property
    def _pools(self) -> list[tuple[str, ...]]:
        """For each group that needs a pool the modules to prepare: those whose Δ is not known to be zero."""
        alive = {name for name in self.client.modules if not self.client.plans_of(name)[0].is_zero}
        groups = [tuple(name for name in sources.ahead if name in alive) for sources in self._sources.values()]
        return [group for group in groups if group]

    @property
    def left(self) -> int | None:
        """For how many tokens all pools have correlations; None if nothing is prepared."""
        if not self._ahead.tokens:
            return None
        return min(map(self.client.left, self._pools), default=self._ahead.tokens)

    def close(self) -> None:
        """End the refill and the session."""
        if self._refill is not None:
            self._refill.stop()
        close = getattr(self._link.link, "close", None)
        if close is not None:
            close()

    def deltas(self, group: Sequence[str], x: NDArray[np.float32]) -> Mapping[str, NDArray[np.float64]]:
        """Δ of a group's modules by their names in the model, each (tokens, its d_out), for x of shape (tokens, d_in).

        Raises:
            PoolEmpty: Too little is prepared, and there is no fallback.
            HeloraError: The other party refused, or could not be reached.
        """
        names = tuple(group)
        with self._lock:
            self._link.start()
            result = self._run(self._sources[names], x)
            self.meter.request(names, result, self._link.elapsed_ns)
        return {name.rpartition("/")[2]: delta for name, delta in result.deltas.items()}

    def _run(self, sources: Sources, x: NDArray[np.float32]) -> Result:
        """By what was prepared ahead of time, or else as asked."""
        if not sources.ahead:
            return self.client.run(sources.online, x, self._link)
        size = 1 if len(x) == 1 else None  # one token surely fits: nothing has to be worked out for it
        while True:
            try:
                return self.client.run(sources.ahead, x, self._link, tokens=size)
            except PoolEmpty as empty:
                if self._ahead.fallback is Fallback.ONLINE:
                    return self.client.run(sources.online, x, self._link)
                if self._ahead.fallback is Fallback.REFUSE or self._refill is None:
                    raise PoolEmpty(
                        empty.message,
                        hint="Prepare more (ahead=…), or choose what to do then (fallback='wait' or 'online').",
                    ) from None
                self._refill.ask(len(x))
                time.sleep(_WAIT_S)

    def _prepare(self, on_prepared: Callable[[float], object]) -> None:
        """Fill every group's pool, and start the refill."""
        if not self._pools:
            return
        for number, asked in enumerate(self._pools):

            def tell(correlations: float, number: int = number) -> None:
                on_prepared((number + correlations / self._ahead.tokens) / len(self._pools))

            preparation = self.client.prepare(asked, self._ahead.tokens, on_correlations=tell)
            while not preparation.done:
                preparation.receive(self._link.answer(preparation.message()))
            report = preparation.report
            self.meter.prepared(report.times, report.bytes_up, report.bytes_down)
        link = self._host.open(self._keys)
        self._refill = Refill(self.client, link, self._pools, self._ahead.tokens)


def _named(names: Mapping[str, str], group: Sequence[str]) -> tuple[str, ...]:
    return tuple(names[each] for each in group) if names else ()


def _require_plans(offered: OfferedAdapter, ahead: Ahead) -> None:
    if ahead.tokens and not offered.ahead:
        raise InvalidInput(
            f"attach: {offered.name} has no plans that run ahead of time.",
            hint="Leave ahead=… out, or serve it by the packing precomputed too.",
        )
    if ahead.tokens and ahead.fallback is Fallback.ONLINE and not offered.names:
        raise InvalidInput(
            f"attach: {offered.name} has no plans that run online, to fall back to.",
            hint="Choose fallback='wait' or 'refuse', or serve it by an online packing too.",
        )
    if not ahead.tokens and not offered.names:
        raise InvalidInput(
            f"attach: all plans of {offered.name} run ahead of time.",
            hint="Say for how many tokens to prepare: ahead=2000.",
        )
