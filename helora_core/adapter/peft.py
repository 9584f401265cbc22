"""LoRA adapters as Hugging Face PEFT saves them: ``adapter_config.json`` beside ``adapter_model.safetensors``.

The files are taken at their word or refused: whatever is in them that Δ = scaling · lora_B · lora_A does not account
for is named in an error, never dropped. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from helora_core.adapter.lora import FloatArray, LoRAAdapter, LoRAModule, module_from_file
from helora_core.adapter.peft_config import PEFTConfig, read_peft_config
from helora_core.adapter.safetensors_io import StoredTensor, read_safetensors
from helora_core.errors import AdapterFormatError

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
KEY_PREFIX = "base_model.model."

_PICKLED_FILE = "adapter_model.bin"

# save_pretrained leaves the adapter's name out of the keys; a state dict saved by hand still has it after lora_A.
_LORA_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")

# What VeLoRA and MonteCLoRA keep for their training passes; in evaluation mode PEFT runs both as plain LoRA.
_TRAINING_ONLY = re.compile(r".*\.lora_(velora_embed|monteclora_sampler)(\..*)?")

_NOT_PLAIN_LORA = (
    (re.compile(r".*\.lora_magnitude_vector(\..*)?"), "a magnitude vector of DoRA"),
    (re.compile(r".*\.lora_B(\.[^.]+)?\.bias"), "a bias in lora_B (lora_bias)"),
    (re.compile(r".*\.lora_embedding_[AB](\..*)?"), "LoRA on an embedding"),
    (re.compile(r".*\.lora_diag(\..*)?"), "a diagonal of KaSA"),
    (re.compile(r".*trainable_tokens.*"), "trained token embeddings (trainable_token_indices)"),
    (re.compile(r".*\.modules_to_save\..*"), "a module saved in full (modules_to_save)"),
    (re.compile(r".*\.bias"), "a bias of the base model"),
)

_NOT_SAVED_BY_PEFT = f"Give the directory that PEFT's save_pretrained wrote, with {CONFIG_FILE} and {TENSOR_FILE}."

_Pair = dict[str, tuple[str, StoredTensor]]


def load_peft(directory: str | os.PathLike[str]) -> LoRAAdapter:
    """Load a LoRA adapter from a PEFT directory.

    Matrices may be F64, F32, F16 or BF16 and are widened to float64 exactly. The scaling is α/r or α/√r with the
    module's own α and r. Module names lose PEFT's ``base_model.model.`` prefix.

    Raises:
        AdapterFormatError: A file is missing or damaged, or the adapter is not plain LoRA; the message names the file
            and the feature or tensor.
    """
    root = Path(directory)
    _check_directory(root)
    config = read_peft_config(root / CONFIG_FILE)
    path = root / TENSOR_FILE
    pairs = _pair(path, read_safetensors(path))
    modules = [_module(path, config, name, pair) for name, pair in pairs.items()]
    return LoRAAdapter.from_modules(modules, source=str(root))


def _check_directory(root: Path) -> None:
    if not root.is_dir():
        raise AdapterFormatError(
            f"{root}: is not a directory.", hint=f"Give the directory that holds {CONFIG_FILE} and {TENSOR_FILE}."
        )
    if not (root / CONFIG_FILE).exists():
        raise _no_config(root)
    if not (root / TENSOR_FILE).exists():
        raise _no_tensors(root)


def _no_config(root: Path) -> AdapterFormatError:
    # save_pretrained puts every adapter but the one called "default" into a directory of its name
    nested = ", ".join(sorted(str(found.parent) for found in root.glob(f"*/{CONFIG_FILE}")))
    return AdapterFormatError(
        f"{root}: there is no {CONFIG_FILE}.",
        hint=f"Give one of the adapters below it: {nested}." if nested else _NOT_SAVED_BY_PEFT,
    )


def _no_tensors(root: Path) -> AdapterFormatError:
    if not (root / _PICKLED_FILE).exists():
        return AdapterFormatError(f"{root}: there is no {TENSOR_FILE}.", hint=_NOT_SAVED_BY_PEFT)
    return AdapterFormatError(
        f"{root}: there is no {TENSOR_FILE}, only {_PICKLED_FILE}, a pickle, which can run any code when it is loaded.",
        hint="If you trust it, load it with PEFT and save it with save_pretrained(…, safe_serialization=True).",
    )


def _pair(path: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, _Pair]:
    """The tensors by module and side (A or B), each with its key; every tensor is in the result or refused."""
    pairs: dict[str, _Pair] = {}
    adapters: set[str | None] = set()
    for key, tensor in tensors.items():
        found = _LORA_KEY.fullmatch(key)
        if found is None:
            if not _TRAINING_ONLY.fullmatch(key):
                raise _foreign_tensor(path, key)
            continue
        adapters.add(found["adapter"])
        pair = pairs.setdefault(found["module"].removeprefix(KEY_PREFIX), {})
        if found["side"] in pair and len(adapters) == 1:
            raise AdapterFormatError(
                f"{path}: {pair[found['side']][0]!r} and {key!r} are the same matrix of one module.",
                hint=f"Keep one of them; PEFT writes keys with the prefix {KEY_PREFIX!r}.",
            )
        pair[found["side"]] = (key, tensor)
    if len(adapters) > 1:
        named = ", ".join(sorted(repr(name) if name else "one without a name" for name in adapters))
        raise AdapterFormatError(
            f"{path}: it holds several adapters ({named}).", hint="Save each with save_pretrained(selected_adapters=…)."
        )
    if not pairs:
        raise AdapterFormatError(f"{path}: it holds no LoRA matrix.", hint="Check that the adapter was saved by PEFT.")
    return pairs


def _foreign_tensor(path: Path, key: str) -> AdapterFormatError:
    for pattern, feature in _NOT_PLAIN_LORA:
        if pattern.fullmatch(key):
            return AdapterFormatError(
                f"{path}: tensor {key!r} is {feature}, which is not supported.",
                hint="Train or convert the adapter as plain LoRA on linear layers.",
            )
    return AdapterFormatError(
        f"{path}: tensor {key!r} is not part of a LoRA module.",
        hint="If it is a weight of the base model (modules_to_save, or a resized or targeted embedding), save the "
        "adapter without it: save_pretrained(…, save_embedding_layers=False).",
    )


def _module(path: Path, config: PEFTConfig, name: str, pair: _Pair) -> LoRAModule:
    if len(pair) == 1:
        [(side, (key, _))] = pair.items()
        other = "B" if side == "A" else "A"
        raise AdapterFormatError(
            f"{path}: tensor {key!r} has no lora_{other} beside it.",
            hint="Save the adapter again; both matrices of a module are needed.",
        )
    declared = config.rank_of(name)
    down, up = _matrix(path, *pair["A"]), _matrix(path, *pair["B"])
    module = module_from_file(path, name, down, up, config.scaling_of(name))
    if module.shape.rank != declared:
        raise AdapterFormatError(
            f"{path}: module {name!r} has rank {module.shape.rank}, but {CONFIG_FILE} declares rank {declared}.",
            hint="If the tensors are right, correct r or rank_pattern: the scaling depends on the rank.",
        )
    return module


def _matrix(path: Path, key: str, tensor: StoredTensor) -> FloatArray:
    if len(tensor.shape) in (3, 4, 5):
        raise AdapterFormatError(
            f"{path}: tensor {key!r} has {len(tensor.shape)} dimensions: LoRA on a convolution is not supported.",
            hint="Target linear layers only.",
        )
    if not tensor.is_float:
        raise AdapterFormatError(
            f"{path}: tensor {key!r} is stored as {tensor.dtype}.",
            hint="Save the adapter as float32, float16 or bfloat16.",
        )
    return tensor.widened()
