"""What the adapter tests share: PEFT directories with anything wrong that is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Stored = tuple[str, tuple[int, ...], bytes]

SOUND_CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_modules": ["q_proj"]}
SOUND_TENSORS = {
    "base_model.model.q_proj.lora_A.weight": np.arange(6, dtype="<f4").reshape(2, 3),
    "base_model.model.q_proj.lora_B.weight": np.arange(-4, 4, dtype="<f4").reshape(4, 2),
}


@pytest.fixture(scope="session")
def safetensors_bytes() -> Callable[..., bytes]:
    """Puts a safetensors file together from (dtype, shape, data), without the code under test."""

    def build(entries: Mapping[str, Stored], metadata: Mapping[str, str] = {}) -> bytes:
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        data = b""
        for name, (dtype, shape, blob) in entries.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(blob)]}
            data += blob
        encoded = json.dumps(header).encode()
        return len(encoded).to_bytes(8, "little") + encoded + data

    return build


def stored(values: NDArray[Any] | Stored) -> Stored:
    """An array as a safetensors file has it; what NumPy has not comes as it is."""
    if isinstance(values, tuple):
        return values
    return f"{values.dtype.kind.upper()}{8 * values.itemsize}", values.shape, values.tobytes()


@pytest.fixture
def single_file(tmp_path: Path, safetensors_bytes: Callable[..., bytes]) -> Callable[..., Path]:
    """Writes one safetensors file of tensors, with metadata, and perhaps a configuration beside it."""

    def write(
        tensors: Mapping[str, NDArray[Any] | Stored],
        metadata: Mapping[str, str] = {},
        *,
        name: str = "lora.safetensors",
        config: Mapping[str, Any] | None = None,
    ) -> Path:
        content = safetensors_bytes({key: stored(values) for key, values in tensors.items()}, metadata)
        (tmp_path / name).write_bytes(content)
        if config is not None:
            (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        return tmp_path / name

    return write


@pytest.fixture
def peft_directory(tmp_path: Path, safetensors_bytes: Callable[..., bytes]) -> Callable[..., Path]:
    """Writes a PEFT directory: a sound one (q_proj, 3 → 4, r = 2, α = 4), but for the changes given.

    A change to None leaves the entry out. Tensors are float arrays, or (dtype, shape, data) for what NumPy has not.
    """

    def write(
        config: Mapping[str, Any] = {},
        tensors: Mapping[str, NDArray[np.floating[Any]] | Stored | None] = {},
    ) -> Path:
        fields = {name: value for name, value in {**SOUND_CONFIG, **config}.items() if value is not None}
        entries = {name: stored(values) for name, values in {**SOUND_TENSORS, **tensors}.items() if values is not None}
        (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
        (tmp_path / "adapter_model.safetensors").write_bytes(safetensors_bytes(entries))
        return tmp_path

    return write
