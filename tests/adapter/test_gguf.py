"""GGUF beyond the fixtures: what is no adapter, what is damaged, and counts that are not believed."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helora_core.adapter.gguf import load_gguf
from helora_core.errors import AdapterFormatError

FIELDS = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 3.0}
DOWN, UP = np.arange(6, dtype="<f4").reshape(2, 3), np.arange(8, dtype="<f4").reshape(4, 2)
TENSORS = {"blk.0.attn_q.weight.lora_a": (0, DOWN), "blk.0.attn_q.weight.lora_b": (0, UP)}


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return struct.pack("<I", 8) + string(content)
    return struct.pack("<If", 6, content) if isinstance(content, float) else struct.pack("<II", 4, content)


def gguf(
    fields: Mapping[str, Any] = {},
    tensors: Mapping[str, Any] = TENSORS,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A GGUF file, put together without the code under test."""
    entries = {name: content for name, content in {**FIELDS, **fields}.items() if content is not None}
    alignment = fields.get("general.alignment", 32)
    n_tensors, n_fields = counts or (len(tensors), len(entries))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_fields)
    head += b"".join(string(name) + value(content) for name, content in entries.items())
    data = b""
    for name, (kind, values) in tensors.items():
        sides = values.shape[::-1]
        head += string(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, len(data))
        data += values.tobytes()
        data += bytes(-len(data) % alignment)
    return head + bytes(-len(head) % alignment) + data


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [None, 8, 64])
def test_what_is_written_is_read(tmp_path: Path, version: int, alignment: int | None) -> None:
    (tmp_path / "a.gguf").write_bytes(gguf({"general.alignment": alignment} if alignment else {}, version=version))
    [module] = load_gguf(tmp_path / "a.gguf").modules.values()
    assert (module.name, module.scaling) == ("blk.0.attn_q", 1.5)
    assert module.down.tolist() == DOWN.tolist()
    assert module.up.tolist() == UP.tolist()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (gguf({"general.type": "model"}), "'model', not 'adapter'"),
        (gguf({"general.type": None}), "not 'adapter'"),
        (gguf({"adapter.type": "controlvector"}), "'controlvector', not 'lora'"),
        (gguf({"adapter.lora.alpha": 0.0}), "adapter.lora.alpha"),
        (gguf({"adapter.lora.alpha": None}), "adapter.lora.alpha"),
        (gguf({"adapter.lora.alpha": float("nan")}), "adapter.lora.alpha"),
        (gguf({"adapter.lora.alpha": "3"}), "adapter.lora.alpha"),
        (gguf({"adapter.alora.invocation_tokens": struct.pack("<IIQI", 9, 4, 1, 7)}), "aLoRA"),
        (gguf(tensors={name: (8, values) for name, (_, values) in TENSORS.items()}), "Q8_0"),
        (gguf(tensors={name: (99, values) for name, (_, values) in TENSORS.items()}), "type 99"),
        (gguf(tensors={name.replace("blk.0.attn_q", "token_embd"): t for name, t in TENSORS.items()}), "embedding"),
        (gguf(tensors={**TENSORS, "blk.0.attn_norm.weight": (0, UP)}), "normalisation"),
        (gguf(tensors={**TENSORS, "blk.0.attn_k.weight": (0, UP)}), "not part of a LoRA module"),
        (gguf(tensors={"blk.0.x.weight.lora_a": (0, np.ones((5, 2, 3), "<f4")),
                       "blk.0.x.weight.lora_b": (0, np.ones((5, 4, 2), "<f4"))}), "5 stacked experts"),
        (gguf(tensors={"blk.0.attn_q.weight.lora_a": (0, DOWN)}), "no lora_b"),
        (gguf(tensors={}), "no LoRA matrix"),
        (gguf(version=1), "version 1"),
        (gguf(version=3 << 24), "big-endian"),
        (gguf(version=9), "version 9"),
    ],
)  # fmt: skip
def test_what_is_no_lora_in_full_precision_is_refused_by_name(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(AdapterFormatError, match=word) as caught:
        load_gguf(tmp_path / "a.gguf")
    assert caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        gguf(counts=(1 << 60, 3)),
        gguf(counts=(2, 1 << 63)),
        gguf({"x": struct.pack("<IIQ", 9, 8, 1 << 60)}),
        gguf({"x": struct.pack("<IIQ", 9, 12, 1 << 61)}),
        gguf({"x": struct.pack("<IQ", 8, 1 << 62)}),
        gguf({"x": struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 30}),
        gguf({"x": struct.pack("<I", 77)}),
        gguf(tensors={"a.weight.lora_a": (0, np.broadcast_to(DOWN[0, 0], (1, 1)))}).replace(
            struct.pack("<I2Q", 2, 1, 1), struct.pack("<I2Q", 2, 1 << 40, 1 << 40)
        ),
    ],
)
def test_sizes_are_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(AdapterFormatError, match="not a whole GGUF file"):
            load_gguf(tmp_path / "a.gguf")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    whole = gguf().rstrip(b"\0")
    for size in range(4, len(whole)):
        (tmp_path / "a.gguf").write_bytes(whole[:size])
        with refused(AdapterFormatError, str(tmp_path / "a.gguf")):
            load_gguf(tmp_path / "a.gguf")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(places=st.lists(st.tuples(st.integers(4, len(gguf()) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_files_are_read_or_refused(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    content = bytearray(gguf())
    for place, byte in places:
        content[place] = byte
    (tmp_path / "a.gguf").write_bytes(content)
    try:
        load_gguf(tmp_path / "a.gguf")
    except AdapterFormatError as refusal:
        assert refusal.hint  # noqa: PT017 - some damage can be read through


def test_tensors_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Else a file of a megabyte, whose tensors all begin at its first byte, would fill the memory."""
    content, entry = gguf(), struct.pack("<I2QI", 2, *UP.shape[::-1], 0)
    offset = content.index(entry) + len(entry)
    shared = content[:offset] + struct.pack("<Q", 0) + content[offset + 8 : -UP.nbytes]
    (tmp_path / "a.gguf").write_bytes(shared)
    with pytest.raises(AdapterFormatError, match="holds fewer"):
        load_gguf(tmp_path / "a.gguf")
