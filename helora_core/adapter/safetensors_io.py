"""Safetensors files as float64 matrices, including bfloat16.

NumPy has no bfloat16, so safetensors' NumPy reader refuses it, but it is the dtype of most adapters. Its bits are the
upper half of a float32's, so widening is a shift; every widening here is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.errors import AdapterFormatError, InvalidInput
from helora_core.files.malformed import Malformed
from helora_core.files.safetensors import read_tensors

FloatDType: TypeAlias = Literal["f64", "f32", "f16", "bf16"]

_STORED_AS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as stored in the file.

    Attributes:
        dtype: Safetensors' name for its type: ``F32``, ``BF16``, ``I64``, …
        shape: Its dimensions.
        data: Little-endian values in C order.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview = field(repr=False)

    @property
    def is_float(self) -> bool:
        """Whether `widened` can return its values: F64, F32, F16 or BF16, but no floats of 8 bits or fewer."""
        return self.dtype in _STORED_AS

    def widened(self) -> NDArray[np.float64]:
        """The values as float64, exactly. Only for a tensor that `is_float`."""
        stored = np.frombuffer(self.data, dtype=_STORED_AS[self.dtype]).reshape(self.shape)
        if self.dtype == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(invalid="ignore"):  # a signalling NaN needs no warning here; LoRAModule refuses every NaN
            return stored.astype(np.float64)


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """All tensors of a file by name.

    Raises:
        AdapterFormatError: The file is missing, unreadable, truncated, too large or not safetensors.
    """
    try:
        tensors, _ = read_tensors(path)
    except OSError as error:
        raise AdapterFormatError(
            f"{path}: cannot be read ({error.strerror or error}).",
            hint="Give the directory that PEFT's save_pretrained wrote, and check that you may read it.",
        ) from error
    except Malformed as error:
        raise AdapterFormatError(
            f"{path}: {error.reason}.",
            hint="Fetch or save it again; if it came by git, run git lfs pull.",
        ) from error
    return {name: StoredTensor(tensor.dtype, tensor.shape, tensor.data) for name, tensor in tensors.items()}


def write_safetensors(file: BinaryIO, tensors: Mapping[str, NDArray[np.float64]], dtype: FloatDType) -> None:
    """Write matrices, rounded to ``dtype``.

    The format (https://github.com/huggingface/safetensors#format) is implemented here: the library's own writer changes
    its arguments from one release to the next, and its NumPy front end does not support bfloat16.

    Raises:
        InvalidInput: A value is too large for ``dtype``.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers insists on this key
    blobs: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        blob = _narrowed(name, tensors[name], dtype)
        header[name] = {
            "dtype": dtype.upper(),
            "shape": tensors[name].shape,
            "data_offsets": (offset, offset + len(blob)),
        }
        blobs.append(blob)
        offset += len(blob)
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 8)  # aligns the data, as the format advises
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for blob in blobs:
        file.write(blob)


def _narrowed(name: str, values: NDArray[np.float64], dtype: FloatDType) -> bytes:
    with np.errstate(over="ignore"):
        narrow = values.astype("<f4" if dtype == "bf16" else _STORED_AS[dtype.upper()])
    if dtype == "bf16":
        bits = narrow.view(np.uint32)
        narrow = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # round to nearest, ties to even
    blob: bytes = narrow.tobytes()
    if not np.isfinite(StoredTensor(dtype.upper(), values.shape, blob).widened()).all():
        raise InvalidInput(
            f"Tensor {name!r} has values too large for {dtype}.", hint="Write the adapter as f32, or as f64."
        )
    return blob
