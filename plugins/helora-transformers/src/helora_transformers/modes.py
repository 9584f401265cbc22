"""Who runs what, and the three models that one base model can be: itself, with plaintext LoRA, with encrypted LoRA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any

from helora_core.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from helora_core.adapter.lora import LoRAAdapter
    from helora_transformers.private import PrivateModel


class Mode(str, Enum):
    """Who runs what."""

    CLIENT_KEY = "client-key"
    """Base model, text and keys here; the adapter at a host, which computes on ciphertexts."""
    PLAINTEXT = "plaintext"
    """Everything here, and nothing encrypted."""

    def protects(self, host: str | None) -> str:
        """What it protects, in a sentence.

        Args:
            host: Where the adapter is; None for this process.
        """
        if self is Mode.PLAINTEXT:
            return "plaintext: nothing is encrypted; model, adapter and text are all in this process."
        if host is None:
            return (
                "client-key with both parties in this process: Δ is computed encrypted, and nobody is protected, for "
                "adapter, keys and text are in one place."
            )
        return (
            f"client-key: {host} computes on ciphertexts; it sees keys, times and how many tokens, and no text. The "
            "adapter stays there: Δ is what comes back."
        )


def require_runnable(mode: Mode, host: str | None) -> None:
    """Check that a mode can be run here.

    Args:
        mode: The mode.
        host: Where the adapter is; None for this process.

    Raises:
        InvalidInput: Nothing here runs it.
    """
    if mode is Mode.PLAINTEXT and host is not None:
        raise InvalidInput(
            f"Mode plaintext needs the adapter itself, and {host} does not give it away.",
            hint="Use --mode client-key, or give --adapter a directory.",
        )


class Variant(str, Enum):
    """What a base model is made to be."""

    BASE = "base"
    PLAINTEXT = "plaintext"
    ENCRYPTED = "encrypted"

    @property
    def label(self) -> str:
        """For people."""
        return {"base": "base model", "plaintext": "plaintext LoRA", "encrypted": "encrypted LoRA"}[self.value]


class PlaintextModel:
    """A model with an adapter in plaintext: Δ in float32, by the hooks that also add the encrypted one.

    It is disabled until it is used as a context manager; ``close`` takes the hooks off.

    Args:
        model: The base model.
        adapter: The adapter.

    Raises:
        InvalidInput: The adapter's modules are not the model's.
        ModelUnsupported: As ``attach`` raises it.
    """

    def __init__(self, model: Any, adapter: LoRAAdapter) -> None:
        import torch

        from helora_transformers.discover import input_groups, require_plain, sites_of
        from helora_transformers.hooks import Hooks

        require_plain(model)
        sites = sites_of(model, {each.name: (each.shape.d_in, each.shape.d_out) for each in adapter.modules.values()})
        groups = input_groups(model, sites)
        self._weights = {
            each.name: (
                torch.tensor(each.down, dtype=torch.float32),
                torch.tensor(each.up, dtype=torch.float32),
                float(each.scaling),
            )
            for each in adapter.modules.values()
        }
        self._hooks = Hooks(model, sites, groups, self._deltas)
        self._hooks.enabled = False

    def __enter__(self) -> PlaintextModel:
        self._hooks.enabled = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hooks.enabled = False

    def close(self) -> None:
        """Take the hooks off."""
        self._hooks.remove()

    def _deltas(self, group: Sequence[str], x: NDArray[np.float32]) -> Mapping[str, NDArray[np.float64]]:
        """Δ of a group's modules, each (tokens, its d_out), for x of shape (tokens, d_in); numbers of float32."""
        import torch
        from torch.nn.functional import linear

        found: dict[str, NDArray[np.float64]] = {}
        with torch.no_grad():
            inputs = torch.from_numpy(x)
            for name in group:
                down, up, scaling = self._weights[name]
                found[name] = (linear(linear(inputs, down), up) * scaling).to(torch.float64).numpy()
        return found


class Variants:
    """One model, made to be its variants in turn.

    Args:
        private: The model with the encrypted adapter, if there is one.
        plaintext: The model with the plaintext adapter, if there is one.
    """

    def __init__(self, private: PrivateModel | None, plaintext: PlaintextModel | None) -> None:
        self._private, self._plaintext = private, plaintext

    @contextmanager
    def only(self, variant: Variant) -> Iterator[None]:
        """While this is open, the model is that variant."""
        with ExitStack() as stack:
            if self._private is not None and variant is not Variant.ENCRYPTED:
                stack.enter_context(self._private.disable_adapter())
            if self._plaintext is not None and variant is Variant.PLAINTEXT:
                stack.enter_context(self._plaintext)
            yield
