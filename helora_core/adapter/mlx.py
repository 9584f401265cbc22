"""Adapters of mlx-lm: ``adapters.safetensors`` beside an ``adapter_config.json`` of its own.

mlx-lm computes Δ = scale · (x · lora_a) · lora_b with ``lora_a`` d_in × r and ``lora_b`` r × d_out, the transposes of
``down`` and ``up``, and ``scale`` in place of α/r (mlx_lm/tuner/lora.py). Its first versions multiplied ``scale`` by
``alpha``/r if there was an ``alpha``, and later ones ignore it, so such a configuration is refused.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from helora_core.adapter.containers import CONFIG_FILE, MLX_FILE
from helora_core.adapter.features import feature_of, unsupported
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.pairs import Layout, Pair, Pairs, adapter_of
from helora_core.adapter.safetensors_io import read_safetensors
from helora_core.adapter.wrappers import module_name
from helora_core.errors import AdapterFormatError
from helora_core.files import strict_json
from helora_core.files.bounded import read_bytes
from helora_core.files.malformed import Malformed

MOST_CONFIG_BYTES = 4 << 20
"""Largest configuration that is read."""

_MATRIX = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])")


def is_mlx_config(fields: dict[str, Any]) -> bool:
    """Whether an ``adapter_config.json`` is MLX's, whose fields have other names than PEFT's."""
    return "peft_type" not in fields and ("lora_parameters" in fields or "fine_tune_type" in fields)


def load_mlx(location: Path) -> LoRAAdapter:
    """Load an adapter of mlx-lm from its directory, or from a safetensors file with the configuration beside it.

    Raises:
        AdapterFormatError: A file is missing or damaged, or it is not plain LoRA on linear layers.
    """
    path = location / MLX_FILE if location.is_dir() else location
    config = path.parent / CONFIG_FILE
    if not path.exists():
        raise AdapterFormatError(
            f"{location}: {CONFIG_FILE} is MLX's, and there is no {MLX_FILE}.",
            hint=f"Give the directory that mlx_lm.lora wrote, with {CONFIG_FILE} and {MLX_FILE}.",
        )
    if not config.exists():
        raise AdapterFormatError(
            f"{path}: it is an adapter of MLX, without {CONFIG_FILE}, which has its scale.",
            hint=f"Fetch the {CONFIG_FILE} that mlx_lm.lora wrote beside it.",
        )
    rank, scale = _rank_and_scale(config, _fields(config))
    pairs = Pairs(path, Layout("lora_a", "lora_b", transposed=True))
    for key, tensor in read_safetensors(path).items():
        found = _MATRIX.fullmatch(key)
        if found is None:
            raise _foreign_tensor(path, key)
        name = module_name(found["module"]).shown
        layer = name.rpartition(".")[2]
        if "embed" in layer or layer == "wte":
            raise unsupported(path, key, "LoRA on an embedding")
        pairs.add(name, "down" if found["side"] == "a" else "up", key, tensor)

    def scaling(name: str, pair: Pair) -> float:
        if rank is not None and pair.rank != rank:
            raise AdapterFormatError(
                f"{path}: module {name!r} has rank {pair.rank}, but {CONFIG_FILE} declares rank {rank}.",
                hint=f"Give the {CONFIG_FILE} that was written with these matrices: their scale depends on it.",
            )
        return scale

    return adapter_of(path, pairs.complete(), scaling)


def _fields(path: Path) -> dict[str, Any]:
    try:
        return strict_json.decode(read_bytes(path, most=MOST_CONFIG_BYTES), dict[str, Any], most=MOST_CONFIG_BYTES)
    except (Malformed, OSError) as error:
        why = error.reason if isinstance(error, Malformed) else f"cannot be read ({error.strerror or error})"
        raise AdapterFormatError(
            f"{path}: {why}.", hint=f"Fetch the {CONFIG_FILE} that mlx_lm.lora wrote, whole."
        ) from error


def _foreign_tensor(path: Path, key: str) -> AdapterFormatError:
    feature = feature_of(key)
    if feature is not None:
        return unsupported(path, key, feature)
    return AdapterFormatError(
        f"{path}: tensor {key!r} is not part of a LoRA module in MLX's format.",
        hint="Give an adapter of mlx_lm.lora with fine_tune_type lora; weights of the model are no part of Δ.",
    )


def _rank_and_scale(path: Path, fields: dict[str, Any]) -> tuple[int | None, float]:
    kind = fields.get("fine_tune_type", "lora")
    if kind != "lora":
        raise AdapterFormatError(
            f"{path}: fine_tune_type is {kind!r}, not 'lora'.",
            hint="Only LoRA adapters can be run; train one with LoRA.",
        )
    parameters = fields.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise AdapterFormatError(
            f"{path}: there is no lora_parameters, where MLX has rank and scale.",
            hint=f"Give the {CONFIG_FILE} that mlx_lm.lora wrote beside the adapter.",
        )
    rank, scale, alpha = (parameters.get(name) for name in ("rank", "scale", "alpha"))
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise AdapterFormatError(
            f"{path}: lora_parameters has no number as its scale.",
            hint="Write the scale that it was trained with; MLX's scale stands in place of α/r.",
        )
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int)):
        raise AdapterFormatError(f"{path}: the rank in lora_parameters is not an integer.", hint="Write its real rank.")
    if alpha is not None and alpha != rank:
        raise AdapterFormatError(
            f"{path}: lora_parameters has an alpha beside its scale: the first versions of mlx-lm multiply the scale "
            "by alpha/rank, later ones do not.",
            hint="Find out which version trained it; then write the scale that it applied, and leave alpha out.",
        )
    return rank, float(scale)
