"""PEFT's ``adapter_config.json``: what it says of ranks and scalings, and whether it means plain LoRA at all.

Checked against the fields of ``LoraConfig`` in peft 0.21.2. PEFT drops the fields it does not know with a warning; here
an unknown field that is set is refused, because a newer PEFT may compute something else with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from helora_core.errors import AdapterFormatError

Rank = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Value = TypeVar("_Value", int, float)

_READ = {"peft_type", "bias", "init_lora_weights", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"}

_HARMLESS = {
    # about the model and the training run
    "task_type",
    "peft_version",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    # where modules are found, which the tensors' names say anyway (what is tied is saved as a refused tensor)
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "ensure_weight_tying",
    # at work in training only: in evaluation mode PEFT runs VeLoRA and MonteCLoRA as plain LoRA
    "lora_dropout",
    "velora_config",
    "monteclora_config",
    # details of an initialisation, without effect on trained matrices (init_lora_weights itself is checked)
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    # layout of the base weight: lora_A and lora_B are stored alike either way
    "fan_in_fan_out",
    # details of features that are refused when they are switched on
    "megatron_core",
    "qalora_group_size",
    # never saved by PEFT, and ignored by it when found
    "runtime_config",
}

# fields that change what is computed, with the feature's name
_REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "a bias in lora_B",
    "modules_to_save": "modules saved in full",
    "target_parameters": "LoRA on bare parameters (fused experts)",
    "trainable_token_indices": "trained token embeddings",
    "layer_replication": "replicated layers",
    "alora_invocation_tokens": "activated LoRA (aLoRA)",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "megatron_config": "Megatron's parallel layers",
}

# Initialisations that leave the base weights as they are. The others PEFT knows (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ)
# subtract the initial product from the base weights or quantise them: Δ is then right only on top of that changed base,
# which the files do not hold. On the published base model the sum would be wrong without a sign of it.
_SAFE_INIT = (None, True, False, "gaussian", "eva", "orthogonal", "mica")


_NO_OBJECT = "Fetch or save the adapter again; PEFT's save_pretrained writes this file, a JSON object in UTF-8."
_WRONG_TYPE = "r must be a positive integer, lora_alpha a number, and the patterns objects of such values."


class PEFTConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The part of ``adapter_config.json`` that Δ depends on.

    Attributes:
        r: Rank of the modules that no pattern names.
        lora_alpha: α of the modules that no pattern names.
        use_rslora: Whether the scaling is α/√r (rank-stabilised LoRA, arXiv:2312.03732) rather than α/r.
        rank_pattern: Ranks by regular expression, see `rank_of`.
        alpha_pattern: α by regular expression.
    """

    r: Rank
    lora_alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, float] | None = None

    def rank_of(self, module: str) -> int:
        """The rank declared for a module, named without PEFT's prefix.

        As in ``peft.utils.other.get_pattern_key``, the first key counts that matches the whole name or an ending of it
        after a dot; a key that begins with ``^`` matches the whole name only. PEFT saves the patterns in alphabetical
        order, so where two match, it is that order which decides, in PEFT and here.

        Raises:
            re.error: A key is no regular expression; `read_peft_config` has refused it before.
        """
        return _by_pattern(self.rank_pattern, module, self.r)

    def scaling_of(self, module: str) -> float:
        """α/r, or α/√r, with the module's own α and declared rank; matched as in `rank_of`."""
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_peft_config(path: Path) -> PEFTConfig:
    """Read ``adapter_config.json``.

    Raises:
        AdapterFormatError: The file is missing or no JSON object, is not about LoRA, switches on something that is not
            plain LoRA, or has fields of wrong types.
    """
    content = _read(path)
    fields: dict[str, Any] = _decoded(path, content, dict[str, Any], _NO_OBJECT)
    _check_kind(path, fields)
    _check_features(path, fields)
    _check_init(path, fields.get("init_lora_weights"))
    config: PEFTConfig = _decoded(path, content, PEFTConfig, _WRONG_TYPE)
    for key in (*(config.rank_pattern or ()), *(config.alpha_pattern or ())):
        _check_pattern(path, key)
    return config


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AdapterFormatError(
            f"{path}: cannot be read ({error.strerror or error}).",
            hint="Give the directory that PEFT's save_pretrained wrote, and check that you may read it.",
        ) from error


def _decoded(path: Path, content: bytes, kind: Any, hint: str) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterFormatError(f"{path}: is not the JSON of a PEFT configuration ({error}).", hint=hint) from error


def _check_kind(path: Path, fields: Mapping[str, Any]) -> None:
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise AdapterFormatError(
            f"{path}: peft_type is {kind!r}, not 'LORA'.", hint="Only LoRA adapters can be run; train one with LoRA."
        )


def _check_features(path: Path, fields: Mapping[str, Any]) -> None:
    bias = fields.get("bias")
    if bias not in (None, "none"):
        raise AdapterFormatError(
            f"{path}: bias is {bias!r}: trained biases of the base model are not part of Δ.",
            hint="Train with bias='none'.",
        )
    for name, value in fields.items():
        if not value or name in _READ or name in _HARMLESS:
            continue
        if name in _REFUSED:
            raise AdapterFormatError(
                f"{path}: {name} is set, but {_REFUSED[name]} is not supported.",
                hint=f"Train with {name} at its default, so that Δ is scaling · lora_B · lora_A and nothing more.",
            )
        raise AdapterFormatError(
            f"{path}: the field {name} is set and unknown, so what it changes is unknown too.",
            hint=f"If {name} has no effect on inference, delete it from adapter_config.json; otherwise train without.",
        )


def _check_init(path: Path, init: object) -> None:
    if init in _SAFE_INIT:
        return
    raise AdapterFormatError(
        f"{path}: init_lora_weights is {init!r}, which changes or may change the base model's weights.",
        hint="Convert the adapter with save_pretrained(…, path_initial_model_for_weight_conversion=…); or, if it runs "
        "on the changed base model that was saved with it, set init_lora_weights to true in adapter_config.json.",
    )


def _check_pattern(path: Path, key: str) -> None:
    try:
        _compiled(key)
    except (re.error, RecursionError, OverflowError) as error:
        raise AdapterFormatError(
            f"{path}: the pattern {key!r} is not a regular expression ({error}).",
            hint="Correct it in rank_pattern or alpha_pattern.",
        ) from error


@lru_cache(maxsize=4096)  # EVA names every module in both patterns, more than re's own cache holds
def _compiled(key: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({key})$")


def _by_pattern(patterns: Mapping[str, _Value] | None, module: str, default: _Value) -> _Value:
    for key, value in (patterns or {}).items():
        if _compiled(key).match(module):
            return value
    return (patterns or {}).get(module, default)  # PEFT's last resort: a name that does not match itself as a pattern
