"""A conversation with one model: what was said, in the model's chat template, and what it has read of it already.

The cache of keys and values is kept between answers, so that a message does not run all before it again: with an
encrypted adapter every token that is run is one more of the host's, and takes its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from helora_core.errors import InvalidInput
from helora_transformers.generate import Generation, stream
from helora_transformers.reading import Read


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
        self._read = Read(model)

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        """What was said: ``role`` and ``content`` of each message."""
        return tuple(dict(each) for each in self._messages)

    def reset(self) -> None:
        """Begin anew."""
        self._messages = []
        self._read = Read(self._model)

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
