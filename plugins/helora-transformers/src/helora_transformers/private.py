"""A model whose adapters stay encrypted: the object that ``attach`` returns."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from helora_core.errors import InvalidInput
from helora_core.parties.client import Client
from helora_transformers.adapter import Adapter, Ahead
from helora_transformers.bank import Bank, OfferedAdapter
from helora_transformers.discover import Site, input_groups, sites_of
from helora_transformers.hooks import Hooks
from helora_transformers.report import Report


class PrivateModel:
    """A model with adapters of a host. Close it, or use it as a context manager: the model is the base model then.

    ``model.generate`` and every other way of running the model work as before. Names mirror PEFT's.

    Args:
        model: The base model; its modules get hooks.
        host: What has the adapters.
        client: The client made of its offer.
        adapters: What the host offers, by name.
        where: Where the host is, for the report.
        ahead: How much is prepared ahead of time for each adapter.
        on_prepared: Called with the share that is prepared, for progress bars.
    """

    def __init__(
        self,
        model: nn.Module,
        host: Bank,
        client: Client,
        adapters: Mapping[str, OfferedAdapter],
        *,
        where: str,
        ahead: Ahead,
        on_prepared: Callable[[float], object],
    ) -> None:
        self.model, self.client = model, client
        self._host, self._offered, self._where = host, dict(adapters), where
        self._ahead, self._on_prepared = ahead, on_prepared
        self._made: dict[str, _Attached] = {}
        self._active: _Attached | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> PrivateModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PrivateModel {type(self.model).__name__}, {self.active_adapter or 'closed'} {self._where}>"

    @property
    def host(self) -> Bank:
        """What has the adapters."""
        return self._host

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the host's adapters."""
        return tuple(self._offered)

    @property
    def active_adapter(self) -> str | None:
        """The adapter whose Δ is added; None when closed."""
        return self._active.adapter.offered.name if self._active else None

    def set_adapter(self, adapter_name: str) -> None:
        """Add Δ of that adapter from now on, and of no other. What it needs is prepared when it is first set.

        Raises:
            InvalidInput: The host has no such adapter, or the model lacks its modules.
            ModelUnsupported: A module of its cannot be given Δ.
        """
        if adapter_name not in self._offered:
            raise InvalidInput(
                f"PrivateModel: the host has no adapter {adapter_name}.", hint=f"It has {', '.join(self._offered)}."
            )
        with self._lock:
            if adapter_name not in self._made:
                try:
                    self._made[adapter_name] = self._attached(self._offered[adapter_name])
                finally:  # if that fails, the one before goes on
                    self._enable()
            self._active = self._made[adapter_name]
            self._enable()

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The base model, while the context is open."""
        active = self._require_active()
        active.hooks.enabled = False
        try:
            yield
        finally:
            active.hooks.enabled = self._active is active

    def report(self) -> Report:
        """What the active adapter took so far."""
        return self._require_active().report(self._where)

    def close(self) -> None:
        """Take all hooks off, and end the sessions. It may be called twice."""
        with self._lock:
            made, self._made, self._active = self._made, {}, None
            for each in made.values():
                each.hooks.remove()
            for each in made.values():
                each.adapter.close()
            if made and hasattr(self._host, "close"):
                self._host.close()

    def _enable(self) -> None:
        for each in self._made.values():
            each.hooks.enabled = each is self._active

    def _require_active(self) -> _Attached:
        if self._active is None:
            raise InvalidInput("PrivateModel: it is closed.", hint="Attach to the model again.")
        return self._active

    def _attached(self, offered: OfferedAdapter) -> _Attached:
        for each in self._made.values():  # groups are discovered by a pass of the base model
            each.hooks.enabled = False
        sites = sites_of(self.model, offered.parts)
        groups = input_groups(self.model, sites)
        adapter = Adapter(self._host, self.client, offered, groups, ahead=self._ahead, on_prepared=self._on_prepared)
        return _Attached(self.model, sites, adapter)


class _Attached:
    """An adapter and its hooks."""

    def __init__(self, model: nn.Module, sites: Mapping[str, Site], adapter: Adapter) -> None:
        self.adapter = adapter
        self.hooks = Hooks(model, sites, adapter.groups, self._ask)

    def _ask(self, group: Sequence[str], x: NDArray[np.float32]) -> Mapping[str, NDArray[np.float64]]:
        return self.adapter.deltas(group, x)

    def report(self, where: str) -> Report:
        offered, totals, clock = self.adapter.offered, self.adapter.meter.totals(), self.hooks.clock
        plans = self.adapter.plans
        ms: dict[str, Any] = {
            name: getattr(totals, f"{name}_ns") / 1e6 for name in ("encrypt", "compute", "decrypt", "link")
        }
        return Report(
            adapter=offered.name,
            backend=offered.backend,
            packings=tuple(dict.fromkeys(plan.packing.name for plan in plans)),
            where=where,
            tokens=totals.tokens,
            passes=clock.passes,
            base_ms=(clock.total_ns - clock.asked_ns) / 1e6,
            **{f"{name}_ms": value for name, value in ms.items()},
            hooks_ms=clock.asked_ns / 1e6 - sum(ms.values()),
            round_trips=totals.round_trips,
            bytes_up=totals.bytes_up,
            bytes_down=totals.bytes_down,
            keys_bytes=self.adapter.keys_bytes,
            ahead_ms=totals.prepared_ns / 1e6,
            ahead_bytes_up=totals.prepared_up,
            ahead_bytes_down=totals.prepared_down,
            correlations_left=self.adapter.left,
            rotations=totals.executed.rotations,
            key_switches=totals.executed.keyswitches,
            bits=None if totals.bits == math.inf else totals.bits,
            leakage=max((plan.leakage_label for plan in plans), key=len),
            assumes=tuple(dict.fromkeys(each.value for plan in plans for each in plan.packing.leakage.assumes)),
            queries_to_copy=min(plan.queries_to_copy(_COPIED_BITS) for plan in plans),
        )


_COPIED_BITS = 8
"""An adapter of which every number is known to so many bits does much the same."""
