"""LoRA files in the format of kohya's sd-scripts: ``<module>.lora_down.weight``, ``lora_up.weight`` and ``alpha``.

Δ = (alpha / r) · lora_up · lora_down, r being the rows of ``lora_down`` (networks/lora.py of kohya-ss/sd-scripts).
Module names have underscores for dots, which cannot be told from original underscores, so the names are kept. A 1 × 1
convolution is a linear layer on the channels of each position, and is read as one. LyCORIS writes the same format for
plain LoRA, with its α already adapted to rank-stabilised scaling; its other algorithms are refused by name.
"""

from __future__ import annotations

import re
from pathlib import Path

from helora_core.adapter.features import feature_of, unsupported
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.pairs import Layout, Pairs, Side
from helora_core.adapter.safetensors_io import StoredTensor, read_safetensors
from helora_core.adapter.said_scaling import scaled
from helora_core.adapter.wrappers import ModuleName, module_name
from helora_core.errors import AdapterFormatError

# Some trainers keep kohya's α and name the matrices as PEFT does.
_MATRIX = re.compile(r"(?P<module>.+)\.(?P<side>lora_down|lora_up|lora_A|lora_B)\.weight")
_ALPHA = re.compile(r"(?P<module>.+)\.alpha")
_SIDES: dict[str, Side] = {"lora_down": "down", "lora_up": "up", "lora_A": "down", "lora_B": "up"}


def load_kohya(path: Path) -> LoRAAdapter:
    """Load a kohya file.

    Raises:
        AdapterFormatError: It is damaged, holds something other than plain LoRA, or does not state its scaling.
    """
    pairs = Pairs(path, Layout("lora_down", "lora_up", convolutions=True))
    alphas: dict[str, tuple[str, StoredTensor]] = {}
    for key, tensor in read_safetensors(path).items():
        if matrix := _MATRIX.fullmatch(key):
            pairs.add(module_name(matrix["module"]).shown, _SIDES[matrix["side"]], key, tensor)
        elif alpha := _ALPHA.fullmatch(key):
            alphas[module_name(alpha["module"]).shown] = (key, tensor)
        elif feature := feature_of(key):
            raise unsupported(path, key, feature)
        else:
            raise AdapterFormatError(
                f"{path}: tensor {key!r} is not part of a LoRA module in kohya's format.",
                hint="Give a file of plain LoRA: lora_down.weight, lora_up.weight and alpha for each module.",
            )
    found = pairs.complete()
    return scaled(path, found, alphas, {name: ModuleName(name, (), "") for name in found})
