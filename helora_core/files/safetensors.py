"""Reads safetensors files, checked against https://huggingface.co/docs/safetensors#format before any tensor is read.

The format's own library reads the last of two tensors with the same name, and wants the whole file in memory first.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from helora_core.files import strict_json
from helora_core.files.bounded import open_plain
from helora_core.files.malformed import Malformed

MOST_HEADER_BYTES = 32 << 20
"""Largest header that is read: some 200 000 tensors."""

MOST_BYTES = 64 << 30
"""Largest file that is read."""

METADATA = "__metadata__"

_WIDTH = 8
_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "F8_E8M0": 8,
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits of one value, by the format's name for its type."""

_Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[_Natural, ...], msgspec.Meta(max_length=32)]
    data_offsets: tuple[_Natural, _Natural]


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Attributes:
        dtype: The format's name for its type: ``F32``, ``BF16``, ``I64``, …
        shape: Its dimensions.
        data: Its values, little-endian, in C order; exactly as many bytes as they take.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview | bytes


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by name, in the file's order, and its metadata.

    Raises:
        OSError: It cannot be read.
        Malformed: It is cut short, too large, or not safetensors.
    """
    with TensorFile(path) as file:
        return {name: file.read(name) for name in file.names}, file.metadata


class TensorFile:
    """A file whose tensors are read one by one; a context manager.

    Args:
        path: The file.

    Attributes:
        names: Of its tensors, in its order.
        metadata: Its metadata.

    Raises:
        OSError: It cannot be read.
        Malformed: It is too large, or not a whole safetensors file.
    """

    def __init__(self, path: Path) -> None:
        descriptor, size = open_plain(path)
        self._file = os.fdopen(descriptor, "rb")
        try:
            if size > MOST_BYTES:
                raise Malformed(f"has {size} bytes, and at most {MOST_BYTES} are read")
            header = _header_bytes(self._file.read(_WIDTH), size, MOST_HEADER_BYTES)
            self._begins = _WIDTH + header
            self._entries, self.metadata = _parsed(self._file.read(header), size - self._begins)
        except BaseException:
            self._file.close()
            raise
        self.names = tuple(self._entries)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def read(self, name: str) -> Tensor:
        """One of its tensors.

        Raises:
            OSError: It cannot be read.
            Malformed: The file was cut short meanwhile, or there is no memory for it.
        """
        entry = self._entries[name]
        start, end = entry.data_offsets
        try:
            self._file.seek(self._begins + start)
            data = self._file.read(end - start)
        except MemoryError as error:
            raise Malformed("holds more than there is memory for") from error
        if len(data) != end - start:
            raise Malformed("was cut short while it was read")
        return Tensor(entry.dtype, entry.shape, data)


def parse_tensors(content: bytes, *, most_header: int = MOST_HEADER_BYTES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As ``read_tensors``, from bytes in memory. The tensors are views of them.

    Raises:
        Malformed: They are cut short, or not safetensors.
    """
    header = _header_bytes(content[:_WIDTH], len(content), most_header)
    view = memoryview(content)[_WIDTH + header :]
    entries, metadata = _parsed(content[_WIDTH : _WIDTH + header], len(view))
    return {
        name: Tensor(entry.dtype, entry.shape, view[slice(*entry.data_offsets)]) for name, entry in entries.items()
    }, metadata


def _header_bytes(first: bytes, size: int, most: int) -> int:
    """The length of the header in bytes."""
    if len(first) < _WIDTH:
        raise Malformed("is not a whole safetensors file (it has no header)")
    length = int.from_bytes(first, "little")
    if length > size - _WIDTH:
        raise Malformed(
            f"is not a whole safetensors file (it states a header of {length} bytes, and has {size} in all)"
        )
    if length > most:
        raise Malformed(f"has a header of {length} bytes, and at most {most} are read")
    return length


def _parsed(header: bytes, room: int) -> tuple[dict[str, _Entry], dict[str, str]]:
    """The header's entries and metadata; the entries fill the ``room`` for data without gap or overlap."""
    try:
        raw = strict_json.decode(header, dict[str, msgspec.Raw], most=len(header), depth=3)
        metadata = msgspec.json.decode(raw.pop(METADATA, b"null"), type=dict[str, str] | None) or {}
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except Malformed as error:
        raise Malformed(f"is not a safetensors file: its header {error.reason}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(
            f"is not a safetensors file: its header states something other than tensors ({error})"
        ) from error
    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, end = entry.data_offsets
        bits = _BITS.get(entry.dtype)
        if bits is None:
            raise Malformed(f"is not a safetensors file (tensor {name!r} is of the unknown type {entry.dtype[:20]!r})")
        needed: Any = math.prod(entry.shape) * bits
        if start != place or 8 * (end - start) != needed:
            raise Malformed(
                f"is not a whole safetensors file (tensor {name!r} does not take the {needed // 8} bytes from {place})"
            )
        place = end
    if place != room:
        raise Malformed(f"is not a whole safetensors file (its tensors take {place} bytes, and it holds {room})")
    return entries, metadata
