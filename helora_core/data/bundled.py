"""The bundled LoRA of SmolLM2-135M-Instruct, and the activations captured at each of its modules.

How they were made, and under which licence, is in ``smollm2_lora/PROVENANCE.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from helora_core.adapter.load import load_adapter
from helora_core.adapter.lora import LoRAAdapter

DIRECTORY = Path(__file__).parent / "smollm2_lora"


def bundled_adapter(directory: Path = DIRECTORY) -> LoRAAdapter:
    """Rank 8 on q_proj (576→576) and v_proj (576→192) of all 30 layers.

    ``directory`` may be another one laid out as the bundled one, such as that of an adapter bundled earlier.
    """
    return load_adapter(directory / "adapter")


def bundled_activations(directory: Path = DIRECTORY) -> dict[str, NDArray[np.float32]]:
    """The input of every adapted module for the last 32 tokens of a real prompt: module name → float32 (32, 576).

    q_proj and v_proj of a layer see the same input, and get the same array.
    """
    file: Any
    with safe_open(directory / "activations.safetensors", framework="numpy") as file:
        inputs = msgspec.json.decode(file.metadata()["inputs"], type=dict[str, str])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    return {module: tensors[key] for module, key in inputs.items()}
