"""Whatever the bytes of an adapter are, it loads or is refused by a HeloraError."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from helora_core.adapter.load import load_adapter
from helora_core.errors import AdapterFormatError, HeloraError

CONFIG = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "use_dora": False, "use_rslora": False,
    "rank_pattern": {"q|k": 2}, "alpha_pattern": {r".*\.q": 3.0}, "target_modules": ["q"], "modules_to_save": None,
}  # fmt: skip
TENSORS = save(
    {
        f"base_model.model.layers.0.{name}.lora_{side}.weight": np.ones((2, 3) if side == "A" else (4, 2), np.float32)
        for name in "qk"
        for side in "AB"
    }
)
WRONG: list[Any] = [
    None, True, False, 0, -1, 2.5, 1e300, 10**30, "", "q", "yes", "(a+)+b", "(?=a)", [], {}, [[]], {"q": 1}, {"(": 1},
    {"q": "2"}, {"a" * 2000: 2}, ["q"] * 3, {"a": {"b": []}},
]  # fmt: skip
HOSTILE = st.sampled_from(WRONG) | st.text(max_size=4)
FLAGS = ["use_dora", "lora_bias", "use_qalora", "fan_in_fan_out", "inference_mode", "use_rslora"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapter")


def load(folder: Path, config: bytes, tensors: bytes) -> None:
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").write_bytes(tensors)
    load_adapter(folder)


def changed(content: bytes, data: st.DataObject) -> bytes:
    """The bytes with some replaced, removed or inserted."""
    mutable = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutable)))
        mutable[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    return bytes(mutable)


def test_the_sound_one_loads(folder: Path) -> None:
    load(folder, json.dumps(CONFIG).encode(), TENSORS)


@given(st.data())
def test_changed_bytes(folder: Path, data: st.DataObject) -> None:
    config, tensors = json.dumps(CONFIG).encode(), TENSORS
    if data.draw(st.booleans()):
        config = changed(config, data)
    else:
        tensors = changed(tensors, data)
    with suppress(HeloraError):
        load(folder, config, tensors)


@given(st.sampled_from(sorted(CONFIG)), HOSTILE)
def test_fields_of_any_kind(folder: Path, field: str, value: Any) -> None:
    with suppress(HeloraError):
        load(folder, json.dumps({**CONFIG, field: value}).encode(), TENSORS)


@given(st.data())
def test_headers_of_any_kind(folder: Path, data: st.DataObject) -> None:
    length = int.from_bytes(TENSORS[:8], "little")
    header = json.loads(TENSORS[8 : 8 + length])
    name = data.draw(st.sampled_from(sorted(header)))
    if data.draw(st.booleans()):
        header[data.draw(st.text(max_size=5))] = header.pop(name)
    elif name in header:
        header[name][data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "x"]))] = data.draw(
            HOSTILE | st.lists(st.integers(-(2**70), 2**70), max_size=3) | st.sampled_from(["F64", "BF16", "F8_E4M3"])
        )
    encoded = json.dumps(header).encode()
    with suppress(HeloraError):
        load(folder, json.dumps(CONFIG).encode(), len(encoded).to_bytes(8, "little") + encoded + TENSORS[8 + length :])


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_are_true_or_false(folder: Path, flag: str) -> None:
    for value in (0, 1, "", "false", "true", [], {}):
        with pytest.raises(AdapterFormatError, match=f"{flag}|bool"):
            load(folder, json.dumps({**CONFIG, flag: value}).encode(), TENSORS)


def test_a_key_that_stands_twice_is_refused(folder: Path) -> None:
    text = json.dumps(CONFIG).replace('"r": 2', '"r": 2, "r": 4')
    with pytest.raises(AdapterFormatError, match="'r' twice"):
        load(folder, text.encode(), TENSORS)
