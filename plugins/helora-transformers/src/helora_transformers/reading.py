"""What a model has read: the cache of keys and values, kept so that the same tokens are not run again."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from helora_transformers.generate import Generation
from helora_transformers.private import PrivateModel


class Read:
    """What a model has read: the cache of keys and values, and the tokens that it is of.

    Args:
        model: A model of transformers, or the result of ``attach``.

    Attributes:
        name: What ``generate`` calls such a cache; newer releases of transformers have another name for it. Empty if
            the model has none that can be cut.
    """

    def __init__(self, model: Any) -> None:
        self._model = model.model if isinstance(model, PrivateModel) else model
        known = inspect.signature(self._model.forward).parameters
        self.name = next((name for name in ("cache", "past_key_values") if name in known), "")
        self._cache: Any = None
        self._ids: list[int] = []
        self._generation: Generation | None = None

    def in_common(self, ids: torch.Tensor) -> tuple[int, int]:
        """How many tokens these, (1, tokens), begin with that were read already, and how many were read in all."""
        self._settle()
        return (0, 0) if self._cache is None else (_common(self._ids, ids[0].tolist()[:-1]), len(self._ids))

    def arguments(self, ids: torch.Tensor) -> dict[str, Any]:
        """For ``generate``: the cache of the tokens with which these begin, if there is one."""
        wanted = ids[0].tolist()
        self._settle()
        common = _common(self._ids, wanted[:-1])  # one token has to be run, to say what comes next
        if self._cache is None or not common:
            self._cache = self._fresh()
        elif common < len(self._ids):
            self._cache.crop(common - len(self._ids))
        return {} if self._cache is None else {self.name: self._cache}

    def reading(self, ids: torch.Tensor, generation: Generation) -> None:
        """The cache is being filled by an answer to these tokens."""
        self._ids, self._generation = ids[0].tolist(), generation

    def _settle(self) -> None:
        """Note what the cache holds after the last answer; nothing of use after one that failed."""
        last, self._generation = self._generation, None
        if last is None or self._cache is None:
            return
        if last.finish_reason is None:
            self._cache, self._ids = None, []
            return
        self._ids = [*self._ids, *last.tokens][: self._cache.get_seq_length()]

    def _fresh(self) -> Any:
        from transformers import DynamicCache

        cache = DynamicCache(config=self._model.config) if self.name else None
        # Layers that forget, with windows or states, cannot be cut back to where two conversations part.
        return cache if cache is not None and all(each.is_croppable for each in cache.layers) else None


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens they begin with in common."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))
