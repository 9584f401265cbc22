"""The scaling of single-file adapters, which state it by an α for each module, by metadata, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from helora_core.adapter.containers import CONFIG_FILE, TENSOR_FILE
from helora_core.adapter.declared import check_ranks, declared_scaling
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.pairs import Pair, adapter_of, number
from helora_core.adapter.peft_config import PEFTConfig, read_peft_config
from helora_core.adapter.safetensors_io import StoredTensor
from helora_core.adapter.wrappers import ModuleName
from helora_core.errors import AdapterFormatError

Alphas = Mapping[str, tuple[str, StoredTensor]]


def scaled(
    path: Path,
    pairs: Mapping[str, Pair],
    alphas: Alphas,
    names: Mapping[str, ModuleName],
) -> LoRAAdapter:
    """The adapter, scaled by each α in the file, or, if it has none, by a configuration beside the file.

    Raises:
        AdapterFormatError: Neither states the scaling, or not for every module.
    """
    _check_alphas(path, alphas, pairs)
    if alphas or not pairs:
        return adapter_of(path, pairs, lambda name, pair: _said_by_alpha(path, alphas, name, pair))
    config = _config_beside(path, pairs)
    scalings = {shown: declared_scaling(path, config, name) for shown, name in names.items()}
    check_ranks(path, config, {names[shown].shown: pair.rank for shown, pair in pairs.items()})
    return adapter_of(path, pairs, lambda shown, _: scalings[shown])


def _check_alphas(path: Path, alphas: Alphas, pairs: Mapping[str, Pair]) -> None:
    """Check that every α belongs to a module, and that either all modules have an α or none has.

    Raises:
        AdapterFormatError: An α has no module, or only some modules have an α.
    """
    for name, (key, _) in alphas.items():
        if name not in pairs:
            raise AdapterFormatError(
                f"{path}: tensor {key!r} is the α of a module that has no matrices in it.",
                hint="Fetch or save the adapter again; each α belongs to two matrices.",
            )
    lacking = next((name for name in pairs if name not in alphas), None)
    if alphas and lacking is not None:
        raise AdapterFormatError(
            f"{path}: module {lacking!r} has no α, but others have one.",
            hint=f"Store {lacking}.alpha as well, the α that it was trained with.",
        )


def _said_by_alpha(path: Path, alphas: Alphas, name: str, pair: Pair) -> float:
    """α/r with the α that the file holds for a module.

    Raises:
        AdapterFormatError: It is not a number, or 0, which some software reads as α = r and other as no effect at all.
    """
    key, tensor = alphas[name]
    alpha = number(path, key, tensor)
    if alpha == 0:
        raise AdapterFormatError(
            f"{path}: tensor {key!r} is 0, which kohya reads as α = r and other software as a scaling of 0.",
            hint="Store the α that is meant.",
        )
    return alpha / pair.rank


def _config_beside(path: Path, pairs: Mapping[str, Pair]) -> PEFTConfig:
    """The configuration beside a file that does not state its scaling.

    Raises:
        AdapterFormatError: There is no configuration, or it belongs to a PEFT adapter beside the file.
    """
    beside = path.parent / CONFIG_FILE
    if beside.exists() and not (path.parent / TENSOR_FILE).exists():
        return read_peft_config(beside)
    rank = next(iter(pairs.values())).rank
    raise AdapterFormatError(
        f"{path}: it does not state its scaling: there is no α for its modules, and no r and lora_alpha in its header.",
        hint=f"In a directory of its own, write {CONFIG_FILE} beside it, with the α that it was trained with: "
        f'{{"peft_type": "LORA", "r": {rank}, "lora_alpha": …}}. kohya and diffusers take α = r for such a file, '
        "which is right only if it was trained so.",
    )
