"""Safetensors: what the format's library writes is read, and what it would let pass is not."""

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

from helora_core.files.malformed import Malformed
from helora_core.files.safetensors import parse_tensors, read_tensors

SOUND = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
}


def file_of(header: object, room: int = 12) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(room)


def changed(**fields: Any) -> dict[str, Any]:
    return {**SOUND, "a": {**SOUND["a"], **fields}}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    arrays = {"z": np.arange(6.0).reshape(2, 3), "a": np.ones(3, np.float16), "none": np.zeros((0, 4), np.float32)}
    content = save(arrays, metadata={"made": "here"})
    (tmp_path / "t").write_bytes(content)
    for tensors, metadata in (parse_tensors(content), read_tensors(tmp_path / "t")):
        assert metadata == {"made": "here"}
        assert {name: (t.shape, bytes(t.data)) for name, t in tensors.items()} == {
            name: (values.shape, values.tobytes()) for name, values in arrays.items()
        }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(7),
        (1 << 62).to_bytes(8, "little") + b"{}",
        file_of({}),
        file_of(SOUND, 11),
        file_of(SOUND, 13),
        file_of(changed(data_offsets=[0, 7])),
        file_of(changed(data_offsets=[8, 0])),
        file_of(changed(data_offsets=[-8, 0])),
        file_of(changed(data_offsets=[4, 12])),
        file_of(changed(data_offsets=[0, 1 << 70])),
        file_of(changed(shape=[1 << 40, 1 << 40])),
        file_of(changed(shape=[-2])),
        file_of(changed(shape=[2.0])),
        file_of(changed(shape=[True, 2])),
        file_of(changed(shape=[1] * 40 + [2])),
        file_of(changed(dtype="F33")),
        file_of(changed(dtype=None)),
        file_of(changed(extra=1)),
        file_of({"a": SOUND["a"]}),
        file_of({**SOUND, "c": SOUND["b"]}),
        file_of(json.dumps(SOUND).encode().replace(b'"b"', b'"a"')),
        file_of(json.dumps(SOUND).encode() + b"x"),
        file_of(b"[" * 10_000),
        file_of(b'{"a": ' * 10_000),
        file_of(b'{"\xff": 1}'),
        file_of([1, 2]),
        file_of({**SOUND, "__metadata__": {"a": 1}}),
        file_of({**SOUND, "__metadata__": {"a": {"b": "c"}}}),
    ],
)
def test_what_is_not_whole_and_unambiguous_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(Malformed):
        parse_tensors(content)
    with pytest.raises(Malformed):
        read_tensors(tmp_path / "t")


def test_a_header_longer_than_any_is_refused_though_the_file_is_as_long(tmp_path: Path) -> None:
    with open(tmp_path / "t", "wb") as file:
        file.write((1 << 30).to_bytes(8, "little"))
        file.truncate(8 + (1 << 30))
    with pytest.raises(Malformed, match="at most"):
        read_tensors(tmp_path / "t")


@given(st.data())
def test_any_change_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(file_of(SOUND))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with suppress(Malformed):
        parse_tensors(bytes(content))
