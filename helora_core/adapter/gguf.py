"""LoRA adapters of llama.cpp: GGUF files of type ``adapter``, in full precision.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. llama.cpp computes
Δ = (alpha / r) · lora_b · lora_a · x (src/llama-adapter.cpp), and takes an ``alpha`` that is 0 or absent for r.

Module names are llama.cpp's (``blk.0.attn_q``), and so is the order of Δ's rows: for models of the Llama family its
converter permutes those of ``attn_q`` and ``attn_k``, so that Δ fits the GGUF model and not the Hugging Face one.

Every size that the file states is checked against the file's own size before memory is allocated for it.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from helora_core.adapter.features import unsupported
from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.pairs import Layout, Pairs, adapter_of
from helora_core.adapter.safetensors_io import StoredTensor
from helora_core.errors import AdapterFormatError

Value = int | float | bool | str | None

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

_FULL_PRECISION = {0: ("F32", 4), 1: ("F16", 2), 28: ("F64", 8), 30: ("BF16", 2)}
_TYPES = {
    2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K",
    14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
    39: "MXFP4",
}  # fmt: skip

_MOST_STRING = 1 << 20
_MOST_SIDES = 4
_MOST_NESTED = 4
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class _Info:
    name: str
    sides: tuple[int, ...]
    type: int
    offset: int


class _Damaged(Exception):
    """A damaged file; the message says how, as the end of a sentence."""


def load_gguf(path: Path) -> LoRAAdapter:
    """Load a LoRA adapter from a GGUF file.

    Raises:
        AdapterFormatError: It is damaged, quantised, or not a LoRA adapter.
    """
    try:
        with open(path, "rb") as file:
            reader = _Reader(file)
            fields, infos = reader.header()
            alpha = _alpha(path, fields)
            pairs = Pairs(path, Layout("lora_a", "lora_b"))
            reader.check_sizes(infos)
            for info in infos:
                module, side = _module_and_side(path, info)
                _check_type(path, info)
                pairs.add(module, "down" if side == "a" else "up", info.name, reader.tensor(info))
    except OSError as error:
        raise AdapterFormatError(
            f"{path}: cannot be read ({error.strerror or error}).", hint="Check that you may read it."
        ) from error
    except _Damaged as error:
        raise AdapterFormatError(
            f"{path}: is not a whole GGUF file ({error}).", hint="Fetch or convert it again."
        ) from error
    return adapter_of(path, pairs.complete(), lambda _, pair: alpha / pair.rank)


def _alpha(path: Path, fields: dict[str, Value]) -> float:
    kind = fields.get("general.type")
    if kind != "adapter":
        raise AdapterFormatError(
            f"{path}: general.type is {kind!r}, not 'adapter': it is a model or something else.",
            hint="Give the LoRA's own GGUF file, as convert_lora_to_gguf.py writes it.",
        )
    if fields.get("adapter.type") != "lora":
        raise AdapterFormatError(
            f"{path}: adapter.type is {fields.get('adapter.type')!r}, not 'lora'.",
            hint="Only LoRA adapters can be run.",
        )
    if "adapter.alora.invocation_tokens" in fields:
        raise AdapterFormatError(
            f"{path}: activated LoRA (aLoRA) is not supported.", hint="Train or convert the adapter as plain LoRA."
        )
    alpha = fields.get("adapter.lora.alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or alpha == 0 or not math.isfinite(alpha):
        raise AdapterFormatError(
            f"{path}: adapter.lora.alpha is absent, 0 or not a number, which llama.cpp reads as α = r.",
            hint="Convert the adapter again with the α that it was trained with, or give the PEFT directory.",
        )
    return float(alpha)


def _module_and_side(path: Path, info: _Info) -> tuple[str, str]:
    module, dot, side = info.name.rpartition(".lora_")
    if not dot or side not in ("a", "b"):
        what = "a trained normalisation layer" if "_norm." in info.name else "not part of a LoRA module"
        raise AdapterFormatError(
            f"{path}: tensor {info.name!r} is {what}.", hint="Convert an adapter of plain LoRA on linear layers."
        )
    module = module.removesuffix(".weight")
    if module.startswith("token_embd"):
        raise unsupported(path, info.name, "LoRA on an embedding")
    return module, side


def _check_type(path: Path, info: _Info) -> None:
    if info.type not in _FULL_PRECISION:
        stored = _TYPES.get(info.type, f"type {info.type}")
        raise AdapterFormatError(
            f"{path}: tensor {info.name!r} is stored as {stored}, not in full precision.",
            hint="Convert the adapter with --outtype f32, f16 or bf16: quantised matrices give a different Δ.",
        )


class _Reader:
    """Reads forward through a file, never beyond its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._data = 0

    def header(self) -> tuple[dict[str, Value], list[_Info]]:
        """The metadata, without the content of arrays, and the tensors' entries; no more of both than can fit."""
        self._take(4)  # the magic, by which the file was recognised
        version = self._number("I")
        if version not in (2, 3):
            order = "is big-endian" if version & 0xFFFF == 0 else f"has version {version}, and 2 and 3 are read"
            raise _Damaged(f"it {order}")
        tensors, count = self._number("Q"), self._number("Q")
        if (tensors + count) * 12 > self._size:
            raise _Damaged("it states more entries than fit into it")
        fields: dict[str, Value] = {}
        for _ in range(count):
            name = self._string()
            if name in fields:
                raise _Damaged(f"it has {name!r} twice")
            fields[name] = self._value(self._number("I"))
        infos = [self._info() for _ in range(tensors)]
        if len({info.name for info in infos}) != len(infos):
            raise _Damaged("two of its tensors have the same name")
        alignment = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
        if isinstance(alignment, bool) or not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise _Damaged("its alignment is not a sensible number")
        self._data = -(-self._file.tell() // alignment) * alignment
        return fields, infos

    def check_sizes(self, infos: list[_Info]) -> None:
        """Refuse tensors that share bytes, since thousands of them could share the same few."""
        read = [info for info in infos if info.type in _FULL_PRECISION]
        total = sum(math.prod(info.sides) * _FULL_PRECISION[info.type][1] for info in read)
        if total > self._size - self._data:
            raise _Damaged(f"its tensors take {total} bytes, and it holds fewer")

    def tensor(self, info: _Info) -> StoredTensor:
        """One tensor of full precision; its dimensions in C order, the reverse of the file's."""
        dtype, width = _FULL_PRECISION[info.type]
        start, size = self._data + info.offset, math.prod(info.sides) * width
        if start + size > self._size:
            raise _Damaged(f"tensor {info.name!r} ends beyond it")
        self._file.seek(start)
        return StoredTensor(dtype, tuple(reversed(info.sides)), self._take(size))

    def _info(self) -> _Info:
        name = self._string()
        dimensions = self._number("I")
        if dimensions > _MOST_SIDES:
            raise _Damaged(f"tensor {name!r} has {dimensions} dimensions")
        sides = tuple(self._number("Q") for _ in range(dimensions))
        return _Info(name, sides, self._number("I"), self._number("Q"))

    def _value(self, kind: int, nested: int = 0) -> Value:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY or nested == _MOST_NESTED:
            raise _Damaged("its metadata has a value of an unknown type")
        inner, count = self._number("I"), self._number("Q")
        if inner in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[inner]))
            return None
        if count * 8 > self._size:
            raise _Damaged("its metadata states more values than fit into it")
        for _ in range(count):
            if inner == _STRING:
                self._skip(self._number("Q"))
            else:
                self._value(inner, nested + 1)
        return None

    def _string(self) -> str:
        length = self._number("Q")
        if length > _MOST_STRING:
            raise _Damaged(f"it has a string of {length} bytes")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise _Damaged("it has a string that is not UTF-8") from None

    def _number(self, code: str) -> int:
        return int(self._scalar(code))

    def _scalar(self, code: str) -> int | float | bool:
        (value,) = struct.unpack(f"<{code}", self._take(struct.calcsize(code)))
        return value  # type: ignore[no-any-return]

    def _take(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise _Damaged("it was cut short")
        data = self._file.read(count)
        if len(data) != count:
            raise _Damaged("it was cut short")
        return data

    def _skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise _Damaged("it was cut short")
        self._file.seek(count, os.SEEK_CUR)
