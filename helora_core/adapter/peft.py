"""LoRA adapters as Hugging Face PEFT saves them: ``adapter_config.json`` beside ``adapter_model.safetensors``.

The files are either read exactly or refused: anything in them beyond Δ = scaling · lora_B · lora_A is named in an
error, never dropped. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from helora_core.adapter.containers import CONFIG_FILE, TENSOR_FILE, check_peft_directory
from helora_core.adapter.declared import check_ranks, declared_scaling
from helora_core.adapter.features import feature_of, unsupported
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.pairs import Layout, Pairs, Side, adapter_of, number
from helora_core.adapter.peft_config import PEFTConfig, read_peft_config
from helora_core.adapter.safetensors_io import StoredTensor, read_safetensors
from helora_core.adapter.wrappers import KEY_PREFIX, ModuleName, module_name, without_wrappers
from helora_core.errors import AdapterFormatError

__all__ = ["CONFIG_FILE", "KEY_PREFIX", "TENSOR_FILE", "load_peft"]

_SIDES: dict[str, Side] = {"lora_A": "down", "lora_B": "up"}

# Tensors that VeLoRA and MonteCLoRA keep for training; in evaluation mode PEFT runs both as plain LoRA.
_TRAINING_ONLY = re.compile(r".*\.lora_(velora_embed|monteclora_sampler)(\..*)?", re.DOTALL)

_ALPHA = re.compile(r"(?P<module>.+?)(\.lora_[AB])?\.(lora_)?alpha")


@dataclass(frozen=True)
class LoRAKey:
    """The parts of a LoRA matrix's key.

    Attributes:
        module: The module it belongs to.
        side: Whether it is ``down`` (lora_A) or ``up`` (lora_B).
        adapter: The adapter's name, which save_pretrained leaves out and a state dict saved by hand still has.
    """

    module: ModuleName
    side: Side
    adapter: str | None


def parse_key(key: str) -> LoRAKey | None:
    """Read a key as written by PEFT and by tools that wrap PEFT's models; None if it is not a LoRA matrix's."""
    parts = key.split(".")
    for place in range(len(parts) - 2, 0, -1):
        side = _SIDES.get(parts[place])
        if side is not None:
            ending = without_wrappers(parts[place + 1 :])
            if ending[-1:] != ["weight"] or len(ending) > 2:
                return None
            return LoRAKey(module_name(".".join(parts[:place])), side, ending[0] if len(ending) == 2 else None)
    return None


def load_peft(directory: str | os.PathLike[str]) -> LoRAAdapter:
    """Load a LoRA adapter from a PEFT directory.

    Matrices may be F64, F32, F16 or BF16 and are widened to float64 exactly. The scaling is α/r or α/√r with the
    module's own α and r. PEFT's ``base_model.model.`` prefix and the names of training tools' wrappers are removed from
    module names.

    Raises:
        AdapterFormatError: A file is missing or damaged, or the adapter is not plain LoRA; the message names the file
            and the feature or tensor.
    """
    root = Path(directory)
    check_peft_directory(root)
    config = read_peft_config(root / CONFIG_FILE)
    path = root / TENSOR_FILE
    names, pairs, alphas = _sorted_out(path, read_safetensors(path))
    found = pairs.complete()
    scalings = {name: declared_scaling(path, config, names[name]) for name in found}
    check_ranks(path, config, {name: pair.rank for name, pair in found.items()})
    for name, (key, tensor) in alphas.items():
        _check_alpha(path, config, name, scalings, key, tensor)
    adapter = adapter_of(path, found, lambda name, pair: scalings[name])
    return LoRAAdapter(adapter.modules, str(root))


def _sorted_out(
    path: Path, tensors: Mapping[str, StoredTensor]
) -> tuple[dict[str, ModuleName], Pairs, dict[str, tuple[str, StoredTensor]]]:
    """Names, matrices and leftover α of all modules. Any other tensor is refused unless it is no part of Δ."""
    names: dict[str, ModuleName] = {}
    pairs = Pairs(path, Layout("lora_A", "lora_B"))
    alphas = {}
    adapters: set[str | None] = set()
    first: dict[tuple[str, Side], str | None] = {}
    for key, tensor in tensors.items():
        found = parse_key(key)
        if found is not None:
            name = found.module.shown
            adapters.add(found.adapter)
            if first.setdefault((name, found.side), found.adapter) != found.adapter:
                continue  # several adapters, as is said below
            names.setdefault(name, found.module)
            pairs.add(name, found.side, key, tensor)
        elif (alpha := _ALPHA.fullmatch(key)) is not None:
            alphas[module_name(alpha["module"]).shown] = (key, tensor)
        elif not _no_part_of_delta(key, tensors):
            raise _foreign_tensor(path, key)
    if len(adapters) > 1:
        named = ", ".join(sorted(repr(name) if name else "one without a name" for name in adapters))
        raise AdapterFormatError(
            f"{path}: it holds several adapters ({named}).", hint="Save each with save_pretrained(selected_adapters=…)."
        )
    outer = sorted({name.outer for name in names.values() if name.outer})
    if len(outer) > 1 or (outer and any(name.outer == "" for name in names.values())):
        raise AdapterFormatError(
            f"{path}: it holds adapters of several models (in front of {KEY_PREFIX!r} stand {', '.join(outer)}).",
            hint="Save the adapter of each model into a directory of its own, with its own configuration.",
        )
    return names, pairs, alphas


def _no_part_of_delta(key: str, tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether a tensor does not change Δ.

    PEFT also saves the base layer, to which Δ is added, where its size may have changed (lm_head). Quantised ones have
    more than a weight: absmax, scales and the like. A bias without its weight was trained.
    """
    if _TRAINING_ONLY.fullmatch(key):
        return True
    layer, found, entry = key.partition(".base_layer.")
    if not found or "lora_" in entry or "modules_to_save" in entry:
        return False
    return entry != "bias" or f"{layer}.base_layer.weight" in tensors


def _foreign_tensor(path: Path, key: str) -> AdapterFormatError:
    feature = feature_of(key)
    if feature is not None:
        return unsupported(path, key, feature)
    if re.fullmatch(r".*\.lora_(down|up)\.weight|.*\.lora[._](linear_layer\.)?(down|up)\.weight|.*\.lora_[ab]", key):
        return AdapterFormatError(
            f"{path}: tensor {key!r} is named as in files of kohya, diffusers or MLX, not as in PEFT's.",
            hint=f"Move the file away from {CONFIG_FILE} and give it alone, if it states its own scaling.",
        )
    return AdapterFormatError(
        f"{path}: tensor {key!r} is not part of a LoRA module.",
        hint="If it is a weight of the base model (modules_to_save, or a resized or targeted embedding), save the "
        "adapter without it: save_pretrained(…, save_embedding_layers=False).",
    )


def _check_alpha(
    path: Path, config: PEFTConfig, name: str, scalings: Mapping[str, float], key: str, tensor: StoredTensor
) -> None:
    """Check that an α that a converter left beside the matrices equals the configuration's."""
    if name in scalings:
        rank = config.rank_of(name)
        alpha = number(path, key, tensor)
        if alpha / (rank**0.5 if config.use_rslora else rank) == scalings[name]:
            return
        what = f"is an α of module {name!r} that is not the one in {CONFIG_FILE}"
    else:
        what = "is an α as in kohya's files, but its module is not there"
    raise AdapterFormatError(
        f"{path}: tensor {key!r} {what}.",
        hint="A converter from kohya's format left it; PEFT ignores it. Find out which α the adapter was trained "
        "with: if it is the tensor's, write that into lora_alpha or alpha_pattern; then save the adapter without the "
        "tensor.",
    )
