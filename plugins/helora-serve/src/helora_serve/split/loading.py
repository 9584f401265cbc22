"""Loads a base model for mode ``split``: here torch is asked for, and nowhere before."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from helora_core.errors import InvalidInput

if TYPE_CHECKING:
    from helora_serve.split.torch_layers import TorchLayers


def load_layers(
    folder: Path, adapters: Mapping[str, Path], *, encrypted: bool = False, both: bool = False
) -> TorchLayers:
    """A base model with adapters. Errors are those of ``TorchLayers``.

    Raises:
        InvalidInput: helora-transformers, torch or transformers is not installed; the hint is what to install.
    """
    for name, line in (
        ("helora_transformers", "pip install 'helora-serve[proxy]'"),
        ("torch", "pip install torch  (a build for your machine; for the CPU alone it has an index of its own)"),
        ("transformers", "pip install 'helora-serve[proxy]'"),
    ):
        if importlib.util.find_spec(name) is None:
            raise InvalidInput(
                f"Serve: modes split and hosted run the base model, and {name} is not installed.", hint=line
            )
    from helora_serve.split.torch_layers import TorchLayers

    return TorchLayers(folder, adapters, encrypted=encrypted, both=both)
