"""Runs a language model's LoRA on encrypted activations. Names are resolved when first used: torch is imported then."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helora_transformers.attaching import attach
    from helora_transformers.connecting import connect
    from helora_transformers.private import PrivateModel

__all__ = ["PrivateModel", "attach", "connect"]

_HOMES = {
    "PrivateModel": "helora_transformers.private",
    "attach": "helora_transformers.attaching",
    "connect": "helora_transformers.connecting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
