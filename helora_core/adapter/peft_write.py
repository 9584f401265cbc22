"""Writes an adapter as a PEFT directory that both `load_peft` and ``PeftModel.from_pretrained`` read."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.adapter.peft import CONFIG_FILE, KEY_PREFIX, TENSOR_FILE
from helora_core.adapter.safetensors_io import FloatDType, write_safetensors
from helora_core.errors import InvalidInput
from helora_core.files.atomic import replacing


def save_peft(
    adapter: LoRAAdapter,
    directory: str | os.PathLike[str],
    *,
    base_model: str,
    dtype: FloatDType = "f32",
    overwrite: bool = False,
) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, each in one step.

    The configuration is written last, and when overwriting, the old one is removed before the tensors change: a
    directory that is left half written has none, and every reader refuses it. Matrices are rounded to ``dtype``
    (``"f64"`` keeps them exactly). PEFT stores α, not α/r, so a scaling comes back exactly if r is a power of two, and
    otherwise to within its last bit.

    Args:
        adapter: The adapter to write.
        directory: Made if it does not exist; its parent must.
        base_model: Name of the base model, for readers of the configuration.
        dtype: How the matrices are stored.
        overwrite: Whether an existing adapter may be replaced.

    Raises:
        InvalidInput: There is already an adapter, a value is too large for ``dtype``, or the files cannot be written.
    """
    root = Path(directory)
    config_path, tensor_path = root / CONFIG_FILE, root / TENSOR_FILE
    if not overwrite and (config_path.exists() or tensor_path.exists()):
        raise InvalidInput(
            f"{root}: there is already an adapter.",
            hint="Choose another directory, or pass overwrite=True to replace it.",
        )
    tensors = {}
    for name, module in adapter.modules.items():
        tensors[f"{KEY_PREFIX}{name}.lora_A.weight"] = module.down
        tensors[f"{KEY_PREFIX}{name}.lora_B.weight"] = module.up
    config = msgspec.json.format(msgspec.json.encode(_config(adapter, base_model)), indent=2)
    _make_directory(root)
    with replacing(tensor_path) as file:
        write_safetensors(file, tensors, dtype)
        config_path.unlink(missing_ok=True)
    with replacing(config_path) as file:
        file.write(config)


def _make_directory(root: Path) -> None:
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"{root}: cannot be written ({error.strerror or error}).",
            hint="Choose a directory whose parent exists and that you may write to.",
        ) from error


def _config(adapter: LoRAAdapter, base_model: str) -> dict[str, Any]:
    """LoraConfig's fields: the most common rank and α as defaults, and exact patterns for the other modules."""
    ranks = {name: module.shape.rank for name, module in adapter.modules.items()}
    alphas = {name: _alpha(module) for name, module in adapter.modules.items()}
    rank, alpha = _commonest(ranks), _commonest(alphas)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": False,
        "rank_pattern": {_exactly(name): value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {_exactly(name): value for name, value in alphas.items() if value != alpha},
        "target_modules": list(adapter.modules),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _commonest(values: dict[str, Any]) -> Any:
    return Counter(values.values()).most_common(1)[0][0]


def _exactly(name: str) -> str:
    """A pattern that matches only this module; a bare name would also match longer names that end in it."""
    return f"^{re.escape(name)}"


def _alpha(module: LoRAModule) -> int | float:
    """The α that, divided by the rank, gives the module's scaling or comes closest to it."""
    rank = module.shape.rank
    product = module.scaling * rank
    if not math.isfinite(product):
        raise InvalidInput(
            f"LoRA module {module.name!r}: α = scaling · r overflows.", hint="Move a part of the scaling into up."
        )
    # If the rank is not a power of two, the rounded product may be off by its last bit, and a neighbour may be right.
    near = (product, math.nextafter(product, math.inf), math.nextafter(product, -math.inf))
    alpha = next((value for value in near if value / rank == module.scaling), product)
    return int(alpha) if alpha.is_integer() and abs(alpha) < 2**53 else alpha
