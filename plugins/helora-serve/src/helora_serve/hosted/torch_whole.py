"""The whole model of ``helora_serve.split.torch_layers``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jinja2.exceptions import TemplateError
from transformers import DynamicCache

from helora_core.errors import InvalidInput
from helora_serve.hosted.whole import Logits, Variant
from helora_serve.split.torch_layers import TorchLayers
from helora_transformers import modes
from helora_transformers.conversation import Conversation, chat_ids
from helora_transformers.generate import Text


class TorchWhole:
    """``Whole``.

    Args:
        layers: The model with its adapters, plaintext and encrypted.

    Raises:
        InvalidInput: The tokenizer has no chat template.
    """

    def __init__(self, layers: TorchLayers) -> None:
        Conversation(layers.model, layers.tokenizer)  # refuses models that are none to talk to
        self._layers = layers
        self.name, self.adapters, self.positions = layers.base.name, layers.adapters, layers.positions
        known = inspect.signature(layers.model.forward).parameters
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}  # those of a prompt take gigabytes
        ends = layers.model.generation_config.eos_token_id
        self.ends = frozenset([ends] if isinstance(ends, int) else ends or ())

    def tokens(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """As said."""
        try:
            found: list[int] = chat_ids(self._layers.tokenizer, messages)[0].tolist()
        except TemplateError:
            raise InvalidInput(
                "The model's chat template refuses these messages.", hint="Change their roles, or the order of them."
            ) from None
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """As said."""
        text: str = self._layers.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def pieces(self) -> Text:
        """As said."""
        return Text(self._layers.tokenizer)

    def next(self, tokens: Sequence[int], cache: Any, variant: Variant, adapter: str | None) -> tuple[Logits, Any]:
        """As said."""
        model = self._layers.model
        cache = DynamicCache(config=model.config) if cache is None else cache
        with torch.no_grad(), self._layers.only(modes.Variant(variant.value), adapter):
            out = model(torch.tensor([list(tokens)]), use_cache=True, **self._last, **{self._layers.cache_name: cache})
        logits: Logits = out.logits[0, -1].float().numpy()
        return logits, cache
