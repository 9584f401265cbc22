"""The weights of a base model as transformers saves it: one safetensors file, or several and an index."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.safetensors_io import StoredTensor
from helora_core.errors import InvalidInput
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed
from helora_core.files.safetensors import TensorFile

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_MOST_INDEX_BYTES = 32 << 20
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class Stored:
    """The weights, of which one tensor at a time is read.

    Args:
        folder: The base model's.

    Attributes:
        files: The files that they are of, the index included.

    Raises:
        InvalidInput: There are none; or the index is damaged, or names what is no file of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shard_of: dict[str, str] | None = None
        if (folder / SINGLE).is_file():
            self.files: tuple[Path, ...] = (folder / SINGLE,)
        elif (folder / INDEX).is_file():
            self._shard_of = self._read_index()
            self.files = (folder / INDEX, *(folder / each for each in sorted(set(self._shard_of.values()))))
        else:
            raise InvalidInput(
                f"Base model {folder}: it has no {SINGLE}, and no {INDEX}.",
                hint="Name a folder that transformers saved, with its tokenizer; helora model fetch makes one. Older "
                "files are saved anew by model.save_pretrained(…).",
            )

    def has(self, name: str) -> bool:
        """Whether there is such a tensor. Errors are those of ``matrix``."""
        if self._shard_of is not None:
            return name in self._shard_of
        with self._opened(SINGLE) as file:
            return name in file.names

    def matrix(self, name: str) -> NDArray[np.float32]:
        """A tensor, of float64, float32, float16 or bfloat16, in its shape.

        Raises:
            InvalidInput: There is none; it is of another type; or its file is damaged or missing.
        """
        shard = SINGLE if self._shard_of is None else self._shard_of.get(name, INDEX)
        if shard == INDEX:
            raise self._unreadable(shard, f"it has no {name}")
        with self._opened(shard) as file:
            if name not in file.names:
                raise self._unreadable(shard, f"it has no {name}")
            try:
                found = file.read(name)
            except (OSError, Malformed) as error:
                raise self._unreadable(shard, getattr(error, "reason", None) or str(error)) from error
        tensor = StoredTensor(found.dtype, found.shape, found.data)
        if not tensor.is_float:
            raise InvalidInput(
                f"Base model {self._folder}: {name} is stored as {found.dtype}.",
                hint="Save the model once more in float32, float16 or bfloat16, and not quantised: "
                "model.float().save_pretrained(…).",
            )
        if tensor.dtype == "F32":
            return np.frombuffer(found.data, "<f4").reshape(found.shape)
        return tensor.widened().astype(np.float32)

    def _opened(self, shard: str) -> TensorFile:
        try:
            return TensorFile(self._folder / shard)
        except OSError as error:
            raise self._unreadable(shard, error.strerror or str(error)) from error
        except Malformed as error:
            raise self._unreadable(shard, error.reason) from error

    def _read_index(self) -> dict[str, str]:
        try:
            with (self._folder / INDEX).open("rb") as file:
                content = file.read(_MOST_INDEX_BYTES + 1)
            found = strict_json.decode(content, _Index, most=_MOST_INDEX_BYTES).weight_map
        except (OSError, Malformed) as error:
            raise self._unreadable(INDEX, getattr(error, "reason", None) or str(error)) from error
        for each in set(found.values()):
            if not _SHARD.fullmatch(each):
                raise self._unreadable(INDEX, "it names what is no safetensors file of the folder")
        return found

    def _unreadable(self, name: str, why: str) -> InvalidInput:
        return InvalidInput(
            f"Base model {self._folder}: {name} could not be read ({why}).",
            hint="Fetch or save the model once more; if it came by git, run git lfs pull.",
        )
