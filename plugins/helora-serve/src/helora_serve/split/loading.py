"""Loads a base model for mode ``split``: here torch is asked for, and nowhere before."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helora_core.errors import InvalidInput
from helora_core.installing import install_line
from helora_serve.offer import DEFAULT

if TYPE_CHECKING:
    from helora_serve.hosted.whole import Whole
    from helora_serve.split.layers import Layers
    from helora_serve.split.torch_layers import TorchLayers


def models_of(
    folder: Path | None, adapters: Sequence[str], *, encrypted: bool, hosted: bool
) -> tuple[Layers | None, Whole | None]:
    """What a server runs in mode ``split``, and in mode ``hosted``; None for what it does not.

    Args:
        folder: The base model; None for neither.
        adapters: ``[NAME=]DIR`` each.
        encrypted: Whether Δ is encrypted in mode ``split``.
        hosted: Whether there is mode ``hosted``.

    Raises:
        InvalidInput: Something is given that needs a base model or an adapter, without it.
        HeloraError: As ``load_layers`` raises it.
    """
    if folder is None:
        if adapters or encrypted or hosted:
            raise InvalidInput(
                "Serve: --adapter, --split-encrypted and --hosted are of a base model that runs here, and none is "
                "given.", hint="Add --split BASE.",
            )  # fmt: skip
        return None, None
    if (encrypted or hosted) and not adapters:
        raise InvalidInput("Serve: there is no adapter to encrypt or to compare.", hint="Add --adapter DIR.")
    layers = load_layers(folder, _by_name(adapters), encrypted=encrypted, both=hosted)
    if not hosted:
        return layers, None
    from helora_serve.hosted.torch_whole import TorchWhole

    return layers, TorchWhole(layers)


def load_layers(
    folder: Path, adapters: Mapping[str, Path], *, encrypted: bool = False, both: bool = False
) -> TorchLayers:
    """A base model with adapters. Errors are those of ``TorchLayers``.

    Raises:
        InvalidInput: helora-transformers, torch or transformers is not installed; the hint is what to install.
    """
    for name, line in (
        ("helora_transformers", install_line("proxy")),
        ("torch", "pip install torch  (a build for your machine; for the CPU alone it has an index of its own)"),
        ("transformers", install_line("proxy")),
    ):
        if importlib.util.find_spec(name) is None:
            raise InvalidInput(
                f"Serve: modes split and hosted run the base model, and {name} is not installed.", hint=line
            )
    from helora_serve.split.torch_layers import TorchLayers

    return TorchLayers(folder, adapters, encrypted=encrypted, both=both)


def _by_name(adapters: Sequence[str]) -> dict[str, Path]:
    """The directories by the names given to them; ``default`` for the only one, if it has none."""
    found: dict[str, Path] = {}
    for each in adapters:
        name, equals, directory = each.rpartition("=")
        name = name if equals else DEFAULT
        if not name or name in found or (not equals and len(adapters) > 1):
            raise InvalidInput(
                f"Serve: the adapter {each} has {'the name of another' if name in found else 'no name'}.",
                hint="Several adapters are told apart by names: --adapter legal=DIR --adapter medical=OTHER",
            )
        found[name] = Path(directory)
    return found
