"""LoRA files of diffusers, ``pytorch_lora_weights.safetensors`` by default, in all of its key styles.

Newer keys are PEFT's with the pipeline's component in front, ``transformer.….to_q.lora_A.weight``. Older ones are
``….to_q.lora.down.weight``, in text encoders ``….lora_linear_layer.down.weight``, and before that
``….processor.to_q_lora.down.weight``; diffusers.utils.state_dict_utils maps them in the same way. The oldest keys are
from before diffusers had an α, and mean a scaling of 1. The configuration of each component is in the header, in the
JSON of ``lora_adapter_metadata``, under names like ``transformer.r``. Files of the other styles without it, which have
an α for each module or none, are scaled as in `said_scaling`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from helora_core.adapter.declared import check_ranks, declared_scaling
from helora_core.adapter.features import feature_of, unsupported
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.pairs import Layout, Pairs, Side, adapter_of
from helora_core.adapter.peft import parse_key
from helora_core.adapter.peft_config import PEFTConfig, parse_peft_config
from helora_core.adapter.safetensors_io import StoredTensor, read_safetensors
from helora_core.adapter.said_scaling import scaled
from helora_core.adapter.wrappers import KEY_PREFIX, ModuleName, module_name
from helora_core.errors import AdapterFormatError
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed

METADATA_KEY = "lora_adapter_metadata"

_COMPONENT = re.compile(r"unet|prior|transformer(_[0-9])?|text_encoder(_[0-9])?|controlnet|diffusion_model")
_OLD_KEY = re.compile(r"(?P<module>.+?)(?P<joint>\.lora_linear_layer|\.lora|_lora)\.(?P<side>down|up)\.weight")
_FIRST_KEY = re.compile(r".*\.processor\.[^.]+_lora\.(down|up)\.weight")
_ALPHA = re.compile(r"(?P<module>.+?)(?P<joint>\.lora_linear_layer|\.lora(_[AB])?|_lora)?(\.(down|up))?\.alpha")

_OF_TEXT_ENCODERS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def load_diffusers(path: Path, metadata: Mapping[str, str]) -> LoRAAdapter:
    """Load a diffusers file.

    Args:
        path: The file.
        metadata: The metadata of its header.

    Raises:
        AdapterFormatError: It is damaged, holds something other than plain LoRA, or does not state its scaling.
    """
    fields = _fields(path, metadata)
    names: dict[str, tuple[str, ModuleName]] = {}
    pairs = Pairs(path, Layout("lora_A", "lora_B", convolutions=True))
    alphas: dict[str, tuple[str, StoredTensor]] = {}
    tensors = read_safetensors(path)
    for key, tensor in tensors.items():
        module, side = _module_and_side(path, key)
        component, name = _named(module, fields)
        shown = f"{component}.{name.shown}" if component else name.shown
        if side is None:
            alphas[shown] = (key, tensor)
            continue
        names.setdefault(shown, (component, name))
        pairs.add(shown, side, key, tensor)
    found = pairs.complete()
    if not fields and all(map(_FIRST_KEY.fullmatch, tensors)):
        return adapter_of(path, found, lambda *_: 1.0)
    if not fields:
        return scaled(path, found, alphas, {shown: name for shown, (_, name) in names.items()})
    if alphas:
        raise AdapterFormatError(
            f"{path}: it has {METADATA_KEY} in its header and tensors of α too: {next(iter(alphas.values()))[0]!r}.",
            hint="Save it with one of them, the one that it was trained with; diffusers refuses both as well.",
        )
    configs = {component: _config(path, component, fields) for component in {each for each, _ in names.values()}}
    scalings = {shown: declared_scaling(path, configs[of], name) for shown, (of, name) in names.items()}
    for component, config in configs.items():
        own = {shown: name.shown for shown, (of, name) in names.items() if of == component}
        check_ranks(path, config, {own[shown]: found[shown].rank for shown in own})
    return adapter_of(path, found, lambda shown, _: scalings[shown])


def _fields(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if METADATA_KEY not in metadata:
        return {}
    try:
        content = metadata[METADATA_KEY].encode()
        return strict_json.decode(content, dict[str, Any], most=len(content))
    except (Malformed, UnicodeError) as error:
        why = f" ({error.reason})" if isinstance(error, Malformed) else ""
        raise AdapterFormatError(
            f"{path}: {METADATA_KEY} in its header is not a JSON object{why}.", hint="Save it again with diffusers."
        ) from error


def _module_and_side(path: Path, key: str) -> tuple[str, Side | None]:
    """The module that a tensor belongs to, with its component in front, and which matrix it is; None for an α."""
    if parse_key(key) is not None:
        place = max(key.rfind(".lora_A."), key.rfind(".lora_B."))
        return key[:place], "down" if key[place + 1 :].startswith("lora_A") else "up"
    if found := _OLD_KEY.fullmatch(key):
        return _new_style(found["module"], found["joint"]), "down" if found["side"] == "down" else "up"
    if feature := feature_of(key):
        raise unsupported(path, key, feature)
    if found := _ALPHA.fullmatch(key):
        return _new_style(found["module"], found["joint"]), None
    raise AdapterFormatError(
        f"{path}: tensor {key!r} is not part of a LoRA module in diffusers' format.",
        hint="Give a file of plain LoRA, as save_lora_weights writes it.",
    )


def _new_style(module: str, joint: str | None) -> str:
    """The module's name in newer keys, from the older name by its attention processor."""
    module = module.replace(".processor.", ".")
    if joint == "_lora":
        parent, _, layer = module.rpartition(".")
        if module.startswith("text_encoder"):
            layer = _OF_TEXT_ENCODERS.get(layer, layer)
        module = f"{parent}.{'to_out.0' if layer == 'to_out' else layer}".removeprefix(".")
    return module


def _named(module: str, fields: Mapping[str, Any]) -> tuple[str, ModuleName]:
    """The component, and the module's name in it as PEFT knows it."""
    component, _, rest = module.partition(".")
    if not rest or not (_COMPONENT.fullmatch(component) or f"{component}.r" in fields):
        name = module_name(module)
        return "", ModuleName(name.shown, (), "") if "r" in fields else name
    name = module_name(rest)
    if name.outer is None:
        name = module_name(f"{KEY_PREFIX}{rest}")
    # transformers has taken this level out of CLIP's text model
    flat = name.shown.removeprefix("text_model.")
    return component, ModuleName(name.shown, tuple({*name.others, flat} - {name.shown}), name.outer)


def _config(path: Path, component: str, fields: Mapping[str, Any]) -> PEFTConfig:
    prefix = f"{component}." if component else ""
    own = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    if "r" not in own or "lora_alpha" not in own:
        raise AdapterFormatError(
            f"{path}: {METADATA_KEY} in its header has no r and lora_alpha for {component or 'the model'}.",
            hint="Save it again with the configuration of every component that it has tensors of.",
        )
    return parse_peft_config(path, msgspec.json.encode({"peft_type": "LORA", **own}))
