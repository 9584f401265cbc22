"""PEFT's ``adapter_config.json``: the ranks and scalings it declares, and whether it describes plain LoRA at all.

Checked against the fields of ``LoraConfig`` in peft 0.21.2. PEFT drops fields it does not know, with a warning; here an
unknown field that is set is refused, because a newer PEFT may compute something else with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from helora_core.adapter.key_patterns import Budget, PatternRefused, key_pattern
from helora_core.errors import AdapterFormatError
from helora_core.files import strict_json
from helora_core.files.bounded import read_bytes
from helora_core.files.malformed import Malformed

MOST_BYTES = 4 << 20
"""Largest configuration that is read."""

MOST_KEY_CHARACTERS = 256 << 10
"""Most characters of all keys of both patterns together: 3000 modules in each, 40 characters a name. Compiling so many
takes seconds."""

Rank = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Value = TypeVar("_Value", int, float)

_READ = {"peft_type", "bias", "init_lora_weights", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"}

_HARMLESS = {
    # the model and the training run
    "task_type",
    "peft_version",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    # where modules are found, which the tensors' names say anyway (tied weights are saved as tensors that are refused)
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "ensure_weight_tying",
    # used in training only: in evaluation mode PEFT runs VeLoRA and MonteCLoRA as plain LoRA
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

# the fields above and below that are true or false; PEFT would take any text for true
_FLAGS = ("fan_in_fan_out", "inference_mode", "ensure_weight_tying", "use_dora", "lora_bias", "use_qalora")

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
# which the files do not hold. On the published base model the sum would be silently wrong.
_SAFE_INIT = (None, True, False, "gaussian", "eva", "orthogonal", "mica")


_NO_OBJECT = "Fetch or save the adapter again; PEFT's save_pretrained writes this file, a JSON object in UTF-8."
_WRONG_TYPE = "r must be a positive integer, lora_alpha a number, and the patterns objects of such values."


class PEFTConfig(msgspec.Struct, frozen=True, kw_only=True, dict=True):
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

        As in ``peft.utils.other.get_pattern_key``, the first key that matches the whole name or an ending of it after a
        dot counts; a key that begins with ``^`` matches the whole name only. PEFT saves the patterns in alphabetical
        order, so if two match, that order decides, in PEFT and here.

        Raises:
            AdapterFormatError: A key is not a regular expression that can be matched in bounded time
                (`read_peft_config` refuses those earlier), or all keys together take too long.
        """
        return _by_pattern("rank_pattern", self.rank_pattern, module, self.r, self._budget)

    def scaling_of(self, module: str) -> float:
        """α/r, or α/√r, with the module's own α and declared rank; matched as in `rank_of`."""
        alpha = _by_pattern("alpha_pattern", self.alpha_pattern, module, self.lora_alpha, self._budget)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    @cached_property
    def _budget(self) -> Budget:
        """The steps that all modules of this adapter may spend together."""
        return Budget()


def read_peft_config(path: Path) -> PEFTConfig:
    """Read ``adapter_config.json``.

    Raises:
        AdapterFormatError: The file is missing or not a JSON object, is not about LoRA, switches on something that is
            not plain LoRA, has fields of wrong types, or has patterns that cannot be matched in bounded time.
    """
    return parse_peft_config(path, _read(path))


def parse_peft_config(path: Path, content: bytes) -> PEFTConfig:
    """As `read_peft_config`, from bytes in memory; messages name the file ``path``."""
    fields: dict[str, Any] = _decoded(path, content, dict[str, Any], _NO_OBJECT)
    _check_kind(path, fields)
    _check_features(path, fields)
    _check_init(path, fields.get("init_lora_weights"))
    config: PEFTConfig = _decoded(path, content, PEFTConfig, _WRONG_TYPE)
    _check_patterns(path, (*(config.rank_pattern or ()), *(config.alpha_pattern or ())))
    return config


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, most=MOST_BYTES)
    except (Malformed, OSError) as error:
        why = error.reason if isinstance(error, Malformed) else error.strerror or error
        raise AdapterFormatError(
            f"{path}: cannot be read ({why}).",
            hint="Give the directory that PEFT's save_pretrained wrote, and check that you may read it.",
        ) from error


def _decoded(path: Path, content: bytes, kind: Any, hint: str) -> Any:
    try:
        return strict_json.decode(content, kind, most=MOST_BYTES)
    except Malformed as error:
        raise AdapterFormatError(f"{path}: {error.reason}; it is not a PEFT configuration.", hint=hint) from error


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
    for name in _FLAGS:
        if not isinstance(fields.get(name), bool | None):
            raise AdapterFormatError(
                f"{path}: {name} is a {type(fields[name]).__name__}, not true or false.",
                hint="Save the adapter again, or write true or false.",
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


def _check_patterns(path: Path, keys: Sequence[str]) -> None:
    length = sum(map(len, keys))
    if length > MOST_KEY_CHARACTERS:
        raise AdapterFormatError(
            f"{path}: the keys of rank_pattern and alpha_pattern have {length} characters, and at most "
            f"{MOST_KEY_CHARACTERS} are read.",
            hint="Use fewer keys: a key is a regular expression, and may match many modules.",
        )
    for key in keys:
        try:
            key_pattern(key)
        except PatternRefused as error:
            raise AdapterFormatError(
                f"{path}: the pattern {key!r} is refused: {error}.",
                hint="Correct it in rank_pattern or alpha_pattern; names, sets, choices and repetitions are enough.",
            ) from error


def _by_pattern(
    field: str, patterns: Mapping[str, _Value] | None, module: str, default: _Value, budget: Budget
) -> _Value:
    try:
        for key, value in (patterns or {}).items():
            if key_pattern(key).matches(module, budget):
                return value
    except PatternRefused as error:
        raise AdapterFormatError(
            f"{field}: {error}.", hint="Write its keys as plain module names, or as fewer and simpler patterns."
        ) from error
    # PEFT's last resort, for a name that does not match itself as a pattern.
    return (patterns or {}).get(module, default)
