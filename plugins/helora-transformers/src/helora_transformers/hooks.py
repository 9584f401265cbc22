"""Hooks that add Δ inside each module of the base model, before a cache is written or a token is sampled.

They fail closed: whatever goes wrong ends the forward pass with an exception, and a pass in which a module got no Δ
ends with one too. Modules that read the same tensor are answered together, when the first of them is called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from helora_transformers.discover import Site, input_of, require_inference
from helora_transformers.errors import DeltaMissing
from helora_transformers.masks import Kept, kept_rows

Deltas = Mapping[str, NDArray[np.float64]]
Ask = Callable[[Sequence[str], NDArray[np.float32]], Deltas]
"""Gives Δ of sites by their names, each (tokens, its d_out), for x of shape (tokens, d_in)."""


@dataclass
class Clock:
    """How long forward passes took.

    Attributes:
        passes: Passes that ended.
        total_ns: Their time.
        asked_ns: Their time spent on Δ.
    """

    passes: int = 0
    total_ns: int = 0
    asked_ns: int = 0


class _Pass(threading.local):
    """What one thread's forward pass knows.

    Attributes:
        depth: How many forward passes of the whole model are open.
        kept: Rows of (batch · tokens) that are not padding; None for all.
        x: The tensor that the last group was asked for, held so that its address is not used again.
        deltas: Δ of the group's sites that were not called yet.
        called: Sites that got their Δ.
        began_ns: When the pass began.
        adding: Whether it adds Δ: what was so when it began holds to its end, whatever another thread sets.
    """

    depth = 0
    began_ns = 0
    adding = False
    kept: Kept | None = None
    x: torch.Tensor | None = None

    def __init__(self) -> None:
        self.deltas: dict[str, torch.Tensor] = {}
        self.called: set[str] = set()

    def clear(self) -> None:
        self.kept, self.x = None, None
        self.deltas, self.called = {}, set()


class Hooks:
    """The hooks of one adapter on one model, from when it is made until ``remove``.

    Args:
        model: The model.
        sites: Its modules that get a Δ.
        groups: Names of sites that read one input, together.
        ask: Gives Δ. It may be called from several threads.

    Attributes:
        enabled: Whether Δ is added; without it the model is the base model.
        clock: How long passes with Δ took.
    """

    def __init__(self, model: nn.Module, sites: Mapping[str, Site], groups: Sequence[Sequence[str]], ask: Ask) -> None:
        self.enabled = True
        self.clock = Clock()
        self._model, self._sites, self._ask = model, sites, ask
        self._group_of = {name: tuple(group) for group in groups for name in group}
        self._pass = _Pass()
        pre = model.register_forward_pre_hook(torch.compiler.disable(self._begin), with_kwargs=True)
        post = model.register_forward_hook(torch.compiler.disable(self._end), with_kwargs=True, always_call=True)
        self._handles = [pre, post]
        for site in sites.values():
            self._handles.append(site.module.register_forward_hook(self._adding(site), with_kwargs=True))

    def remove(self) -> None:
        """Take the hooks off: the model is the base model again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = self._pass
        if state.depth == 0:
            state.clear()
            state.adding = self.enabled
            state.kept = kept_rows(kwargs) if state.adding else None
            state.began_ns = time.perf_counter_ns()
        state.depth += 1

    def _end(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        state = self._pass
        state.depth -= 1
        if state.depth == 0:
            missing = [name for name in self._sites if name not in state.called]
            state.clear()
            if state.adding:
                self.clock.passes += 1
                self.clock.total_ns += time.perf_counter_ns() - state.began_ns
            # ``always_call``: a pass that failed ends here too, without an output, and keeps its own exception.
            if state.adding and missing and output is not None:
                raise DeltaMissing(
                    f"A forward pass ended in which {missing[0]} got no Δ ({len(missing)} of {len(self._sites)} "
                    "modules).",
                    hint="Something replaced or skipped these modules, or their hooks: attach again.",
                )

    def _adding(self, site: Site) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if not (self._pass.adding if self._pass.depth else self.enabled):
                return None
            require_inference(module)
            return self._add(site.name, input_of(args, kwargs), output)

        return torch.compiler.disable(hook)

    def _add(self, name: str, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        state = self._pass
        if state.x is not x or name not in state.deltas:
            start = time.perf_counter_ns()
            state.deltas = self._asked(self._group_of[name], x)
            state.x = x
            self.clock.asked_ns += time.perf_counter_ns() - start
        delta = state.deltas.pop(name)
        if not state.deltas:
            state.x = None
        state.called.add(name)
        return _sum(output, delta)

    def _asked(self, names: Sequence[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Δ for each row of x that is not padding, and zero for the others: (batch, tokens, d_out)."""
        rows = x.detach().reshape(-1, x.shape[-1]).to(device="cpu", dtype=torch.float32).numpy()
        kept = self._pass.kept
        # A module of fewer rows is called for some positions: an output layer for the last one.
        keep = None if kept is None or kept.of != len(rows) else kept.rows
        wanted = rows if keep is None else rows[keep]
        deltas = self._ask(names, wanted)
        wide = np.float64 if x.dtype is torch.float64 else np.float32
        found = {}
        for name in names:
            delta = deltas[name].astype(wide)
            if keep is not None:
                delta = np.zeros((len(rows), delta.shape[1]), dtype=wide)
                delta[keep] = deltas[name]
            found[name] = torch.from_numpy(delta).view(*x.shape[:-1], delta.shape[1])
        return found


def _sum(output: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """output + Δ, in float32 at least, rounded once to the output's type."""
    if output.dtype is delta.dtype and output.device == delta.device:
        return output + delta
    return (output.to(delta.dtype) + delta.to(output.device)).to(output.dtype)
