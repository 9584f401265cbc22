"""A conversation with one model: what was said, in the model's chat template, and what it has read of it already.

The cache of keys and values is kept between answers, so that a message does not run all before it again: with an
encrypted adapter every token that is run is one more of the host's, and takes its time.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from helora_core.errors import InvalidInput
from helora_transformers.generate import Generation, stream


class Conversation:
    """Messages to a model and its answers.

    Args:
        model: The model, as for ``stream``.
        tokenizer: Its tokenizer.

    Raises:
        InvalidInput: The tokenizer has no chat template.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise InvalidInput(
                "The base model's tokenizer has no chat template: it is no model to talk to.",
                hint="Use a model that was tuned for conversations, or `helora generate --raw`.",
            )
        self._model, self._tokenizer = model, tokenizer
        self._messages: list[dict[str, str]] = []
        self._read = _Read(model)

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        """What was said: ``role`` and ``content`` of each message."""
        return tuple(dict(each) for each in self._messages)

    def reset(self) -> None:
        """Begin anew."""
        self._messages = []
        self._read = _Read(self._model)

    def ask(self, message: str, **how: Any) -> Generation:
        """Begin the answer to a message. Neither is part of the conversation until ``keep``.

        Args:
            message: The message.
            how: Further arguments of ``stream``.

        Raises:
            InvalidInput: The conversation is too long for the model.
        """
        ids = chat_ids(self._tokenizer, [*self._messages, {"role": "user", "content": message}])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        asked = stream(self._model, inputs, tokenizer=self._tokenizer, **self._read.arguments(ids), **how)
        self._read.reading(ids, asked)
        return asked

    def keep(self, message: str, answer: str) -> None:
        """Add a message and its answer, as far as it came, to the conversation."""
        self._messages += [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]


def chat_ids(tokenizer: Any, messages: Sequence[dict[str, str]]) -> torch.Tensor:
    """The tokens of messages in the chat template, up to where the answer begins: (1, tokens)."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    ids: torch.Tensor = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    return ids


class _Read:
    """What a model has read: the cache of keys and values, and the tokens that it is of.

    Attributes:
        name: What ``generate`` calls such a cache; newer releases of transformers have another name for it. Empty if
            the model has none that can be cut.
    """

    def __init__(self, model: Any) -> None:
        from helora_transformers.private import PrivateModel

        self._model = model.model if isinstance(model, PrivateModel) else model
        known = inspect.signature(self._model.forward).parameters
        self.name = next((name for name in ("cache", "past_key_values") if name in known), "")
        self._cache: Any = None
        self._ids: list[int] = []
        self._generation: Generation | None = None

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
