"""The single entry point for adapters on disk: recognises the format of a path, and reads it or refuses it by name."""

from __future__ import annotations

import os
from pathlib import Path

from helora_core.adapter.containers import (
    CONFIG_FILE,
    DIFFUSERS_FILE,
    MLX_FILE,
    TENSOR_FILE,
    Kind,
    config_fields,
    first_member,
    kind_of,
    refuse_file,
)
from helora_core.adapter.gguf import load_gguf
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.mlx import is_mlx_config, load_mlx
from helora_core.adapter.npz import load_npz
from helora_core.adapter.peft import load_peft
from helora_core.adapter.single_file import load_safetensors
from helora_core.errors import AdapterFormatError


def load_adapter(path: str | os.PathLike[str]) -> LoRAAdapter:
    """Load a LoRA adapter from a directory of PEFT, MLX or diffusers, or from a file, recognised by its content.

    Files may be safetensors of kohya, diffusers or MLX (with its configuration beside it), GGUF of llama.cpp, or
    ``.npz`` (`load_npz`).

    Raises:
        AdapterFormatError: There is nothing at ``path``, it is of another kind, or it does not hold plain LoRA.
    """
    location = Path(path)
    if location.is_dir():
        return _load_directory(location)
    if not location.exists():
        raise AdapterFormatError(
            f"{location}: there is no such file or directory.",
            hint=f"Give a PEFT directory (with {CONFIG_FILE}) or an adapter file that is on this machine.",
        )
    return _load_file(location)


def _load_directory(root: Path) -> LoRAAdapter:
    config = root / CONFIG_FILE
    if config.exists():
        fields = config_fields(config)
        if is_mlx_config(fields) or ("peft_type" not in fields and (root / MLX_FILE).exists()):
            return load_mlx(root)
    if not (root / TENSOR_FILE).exists():
        if (root / DIFFUSERS_FILE).exists():
            return _load_file(root / DIFFUSERS_FILE)
        if not config.exists() and (root / MLX_FILE).exists():
            return load_mlx(root)
    elif config.exists():
        kind = Kind.SAFETENSORS if (root / TENSOR_FILE).is_dir() else kind_of(root / TENSOR_FILE)
        if kind not in (Kind.SAFETENSORS, Kind.UNKNOWN):
            raise refuse_file(root / TENSOR_FILE, kind)
    return load_peft(root)


def _load_file(path: Path) -> LoRAAdapter:
    try:
        kind = kind_of(path)
    except OSError as error:
        raise AdapterFormatError(
            f"{path}: cannot be read ({error.strerror or error}).",
            hint="Check that it is a file and that you may read it.",
        ) from error
    if kind is Kind.SAFETENSORS or (kind is Kind.UNKNOWN and path.suffix == ".safetensors"):
        return load_safetensors(path)
    if kind is Kind.GGUF:
        return load_gguf(path)
    if kind is Kind.NPZ and (foreign := first_member(path).removesuffix(".npy")).endswith((".lora_a", ".lora_b")):
        raise AdapterFormatError(
            f"{path}: array {foreign!r} is named as in MLX's first format, which does not hold its scale.",
            hint="Save it as <module>.down, <module>.up (both transposed) and <module>.scaling, with save_npz.",
        )
    if kind is Kind.NPZ or (path.suffix == ".npz" and kind in (Kind.ZIP, Kind.UNKNOWN, Kind.EMPTY, Kind.NPY)):
        return load_npz(path)
    raise refuse_file(path, kind)
