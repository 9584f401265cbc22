"""Adapters in one safetensors file: recognises the format by the names in its header, and finds the scaling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from helora_core.adapter.containers import (
    CONFIG_FILE,
    MLX_FILE,
    TENSOR_FILE,
    safetensors_header,
)
from helora_core.adapter.diffusers import METADATA_KEY, load_diffusers
from helora_core.adapter.features import feature_of, unsupported
from helora_core.adapter.kohya import load_kohya
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.mlx import load_mlx
from helora_core.adapter.pairs import no_matrix
from helora_core.adapter.peft import load_peft, parse_key
from helora_core.adapter.safetensors_io import read_safetensors
from helora_core.errors import AdapterFormatError

_KOHYA = re.compile(r"(lora_(unet|te[0-9]*|transformer|prior)_|lycoris_).*|.*\.lora_(down|up)(\.[0-9]+)?\.weight")
_OLD_DIFFUSERS = re.compile(r".*(\.lora|_lora|\.lora_linear_layer)\.(down|up)\.weight")
_MLX = re.compile(r".*\.lora_[ab]")

_OTHERS = (
    (re.compile(r".*\.lora_[ab]\.weight"), "torchtune", "Have torchtune save the adapter in PEFT's format."),
    (re.compile(r".*\.lora_[AB]"), "loralib", "Add the scaling, which it does not hold: write .npz with save_npz."),
    (re.compile(r".*\.adapter\.linear_(in|out)\.weight"), "NeMo", "Convert the adapter to PEFT's format."),
    (re.compile(r".*_lora[0-9]\.(down|up)\.weight"), "XLabs", "Convert the adapter to diffusers' format."),
)


def load_safetensors(path: Path) -> LoRAAdapter:
    """Load an adapter from one safetensors file of kohya, diffusers or MLX.

    Raises:
        AdapterFormatError: It is damaged, of another format, or does not state its scaling.
    """
    metadata, keys = safetensors_header(path)
    if not keys:
        if not read_safetensors(path):  # says what is wrong with it, if something is
            raise no_matrix(path)
        raise AdapterFormatError(f"{path}: its header is too large to be an adapter's.", hint=f"Give {TENSOR_FILE}.")
    if any(map(_MLX.fullmatch, keys)):
        return load_mlx(path.parent) if path.name == MLX_FILE else load_mlx(path)
    if any(map(_OLD_DIFFUSERS.fullmatch, keys)) or METADATA_KEY in metadata:
        return load_diffusers(path, metadata)
    if any(map(_KOHYA.fullmatch, keys)):
        return load_kohya(path)
    found = {key: parsed for key in keys if (parsed := parse_key(key)) is not None}
    if path.name == TENSOR_FILE and (path.parent / CONFIG_FILE).exists():
        return load_peft(path.parent)
    if any(parsed.module.outer is not None for parsed in found.values()):
        raise AdapterFormatError(
            f"{path}: it is the tensors of a PEFT adapter, without {CONFIG_FILE}, which has r and lora_alpha.",
            hint=f"Give the directory that holds both, with this file under the name {TENSOR_FILE}.",
        )
    if found:
        return load_diffusers(path, metadata)
    raise _refusal(path, dict.fromkeys(keys))


def _refusal(path: Path, keys: Mapping[str, None]) -> AdapterFormatError:
    for key in keys:
        feature = feature_of(key)
        if feature is not None and feature != "a bias of the base model":
            return unsupported(path, key, feature)
    for pattern, name, hint in _OTHERS:
        if any(map(pattern.fullmatch, keys)):
            return AdapterFormatError(f"{path}: it is named as in {name}'s format, which is not read.", hint=hint)
    return AdapterFormatError(
        f"{path}: it holds no LoRA matrix; the first of its tensors is {next(iter(keys))!r}.",
        hint=f"Give the adapter, not the model: the directory with {CONFIG_FILE} and {TENSOR_FILE}.",
    )
