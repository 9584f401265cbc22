"""The layers of a model of transformers, with adapters in plaintext or encrypted within this process.

Nothing else in the server imports torch; ``helora_serve.split.loading`` imports this when it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from helora_core.adapter.load import load_adapter
from helora_serve.split.layers import Rows
from helora_serve.split.offer import SplitBase, digest_of
from helora_serve.split.selftest import Logits, SelfTest, selftest
from helora_transformers.attaching import attach
from helora_transformers.errors import ModelUnsupported
from helora_transformers.models import load_base
from helora_transformers.modes import PlaintextModel, Variant
from helora_transformers.private import PrivateModel


class TorchLayers:
    """A base model and its adapters: ``Layers``.

    Args:
        folder: The base model, as transformers saves it.
        adapters: Folders of adapters by their names.
        encrypted: Whether requests of mode ``split`` get Δ encrypted.
        both: Whether the encrypted variants are there too if they do not.

    Attributes:
        model, tokenizer: The model.
        cache_name: What its ``forward`` calls a cache.

    Raises:
        InvalidInput: A folder is no base model, or an adapter is another model's.
        ModelUnsupported: The model cannot be split after its final norm; or as ``attach`` raises it.
        HeloraError: As ``load_base``, ``load_adapter`` and ``attach`` raise it.
    """

    def __init__(
        self, folder: Path, adapters: Mapping[str, Path], *, encrypted: bool = False, both: bool = False
    ) -> None:
        self.model, self.tokenizer = load_base(str(folder))
        self.adapters, self.encrypted = tuple(adapters), encrypted
        config = self.model.config.get_text_config()
        self.base = SplitBase(
            name=folder.resolve().name,
            sha256=digest_of(folder),
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            vocabulary=config.vocab_size,
        )
        self.positions = int(config.max_position_embeddings)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.bytes_per_position = 2 * 4 * heads * size * config.num_hidden_layers
        self._decoder = self.model.get_decoder()
        known = inspect.signature(self._decoder.forward).parameters
        self.cache_name = next((name for name in ("cache", "past_key_values") if name in known), "")
        if not self.cache_name or not all(each.is_croppable for each in DynamicCache(config=config).layers):
            raise _unfit("its cache cannot be cut back")
        loaded = {name: load_adapter(each) for name, each in adapters.items()}
        self._plaintext = {name: PlaintextModel(self.model, each) for name, each in loaded.items()}
        self._private = {
            name: _Encrypted(attach(self.model, each)) for name, each in loaded.items() if encrypted or both
        }
        for name in (None, *self.adapters):
            if not self.selftest(name).tokens_equal:
                raise _unfit("what its layers give and its head takes is not what the whole model does")

    def forward(self, rows: Rows, cache: Any, position: int, adapter: str | None) -> tuple[Rows, Any]:
        """As said."""
        cache = cache if position and cache is not None else DynamicCache(config=self.model.config)
        _cut(cache, position)
        variant = Variant.ENCRYPTED if self.encrypted else Variant.PLAINTEXT
        try:
            with torch.no_grad(), self.only(variant, adapter):
                out = self._decoder(
                    inputs_embeds=torch.from_numpy(rows)[None],
                    position_ids=torch.arange(position, position + len(rows))[None],
                    use_cache=True,
                    **{self.cache_name: cache},
                )
        except BaseException:
            _cut(cache, position)
            raise
        return out.last_hidden_state[0].numpy().astype(np.float32, copy=False), cache

    def selftest(self, adapter: str | None) -> SelfTest:
        """Compare the split path with the whole model, whose adapter is in plaintext."""
        embedding = self.model.get_input_embeddings().weight.detach().numpy()
        head = self.model.get_output_embeddings()

        def logits(rows: Rows) -> Logits:
            with torch.no_grad():
                found: Logits = head(torch.from_numpy(rows)).numpy()
            return found

        def whole(tokens: list[int]) -> Logits:
            with torch.no_grad(), self.only(Variant.PLAINTEXT, adapter):
                found: Logits = self.model(torch.tensor([tokens])).logits[0].float().numpy()
            return found

        return selftest(self, adapter, embedding, logits, whole)

    def only(self, variant: Variant, adapter: str | None) -> AbstractContextManager[Any]:
        """While this is open, the model is that variant, with that adapter."""
        if adapter is None or variant is Variant.BASE:
            return nullcontext()
        return self._plaintext[adapter] if variant is Variant.PLAINTEXT else self._private[adapter].on()

    def close(self) -> None:
        """As said."""
        for private in self._private.values():
            private.close()
        for plaintext in self._plaintext.values():
            plaintext.close()


class _Encrypted:
    """A model with an encrypted adapter that is off until it is asked for."""

    def __init__(self, private: PrivateModel) -> None:
        self._private, self._off = private, ExitStack()
        self._off.enter_context(private.disable_adapter())

    @contextmanager
    def on(self) -> Iterator[None]:
        """While this is open, it is on."""
        self._off.close()
        try:
            yield
        finally:
            self._off.enter_context(self._private.disable_adapter())

    def close(self) -> None:
        """Take it off for good."""
        self._off.close()
        self._private.close()


def _cut(cache: Any, position: int) -> None:
    """Forget what it has from there on; layers may have more than others, if a pass failed."""
    for layer in cache.layers:
        if layer.is_initialized and (more := layer.get_seq_length() - position) > 0:
            layer.crop(-more)


def _unfit(why: str) -> ModelUnsupported:
    return ModelUnsupported(
        f"Split: the model cannot be served in parts: {why}.",
        hint="Use a model of Llama's shape; adapters of the embedding and of the head do not go with mode split.",
    )
