"""Pairs the tensors of a file into the two matrices of each module, whatever the file calls them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from helora_core.adapter.lora import FloatArray, LoRAAdapter, LoRAModule, module_from_file
from helora_core.adapter.safetensors_io import StoredTensor
from helora_core.errors import AdapterFormatError

Side: TypeAlias = Literal["down", "up"]

UNGATHERED = (
    "DeepSpeed ZeRO-3 and FSDP leave such stubs when a rank saves its shard without gathering the others: set "
    "stage3_gather_16bit_weights_on_model_save, or gather the parameters, and save again."
)


@dataclass(frozen=True)
class Layout:
    """How a file format stores the matrices.

    Attributes:
        down: Its name for ``down`` (r × d_in).
        up: Its name for ``up`` (d_out × r).
        transposed: Whether it stores the transposes, d_in × r and r × d_out.
        convolutions: Whether a matrix may have trailing dimensions of 1, as in 1 × 1 convolutions, which are linear
            layers at each position.
    """

    down: str
    up: str
    transposed: bool = False
    convolutions: bool = False

    @property
    def sides(self) -> tuple[str, str]:
        """The dimensions of the two matrices, in words."""
        return ("d_in × r", "r × d_out") if self.transposed else ("r × d_in", "d_out × r")


@dataclass(frozen=True)
class Pair:
    """Both matrices of one module as stored, each with its key in the file."""

    path: Path
    down_key: str
    up_key: str
    stored_down: StoredTensor
    stored_up: StoredTensor
    layout: Layout

    @property
    def rank(self) -> int:
        """r, from the shape of ``down``."""
        return self.stored_down.shape[1 if self.layout.transposed else 0]

    @property
    def rank_of_up(self) -> int:
        """r, from the shape of ``up``."""
        return self.stored_up.shape[0 if self.layout.transposed else 1]

    def module(self, name: str, scaling: float) -> LoRAModule:
        """The module, its matrices widened to float64.

        Raises:
            AdapterFormatError: It is not a valid module (see `LoRAModule`).
        """
        down, up = self._widened(self.stored_down), self._widened(self.stored_up)
        return module_from_file(self.path, name, down, up, scaling)

    def _widened(self, tensor: StoredTensor) -> FloatArray:
        values = tensor.widened()
        if values.ndim > 2:
            values = values.reshape(values.shape[:2])
        return values.T if self.layout.transposed else values


class Pairs:
    """Collects tensors by module and side."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self._layout = layout
        self._found: dict[str, dict[Side, tuple[str, StoredTensor]]] = {}

    def add(self, module: str, side: Side, key: str, tensor: StoredTensor) -> None:
        """Add one tensor.

        Raises:
            AdapterFormatError: The module already has a tensor for this side.
        """
        sides = self._found.setdefault(module, {})
        if side in sides:
            raise AdapterFormatError(
                f"{self._path}: {sides[side][0]!r} and {key!r} are the same matrix of one module.",
                hint="Keep one of them, without wrappers and prefixes of training tools in its name.",
            )
        sides[side] = (key, tensor)

    def complete(self) -> dict[str, Pair]:
        """Every module's pair.

        Raises:
            AdapterFormatError: A matrix has no counterpart, is empty, has integers, or has more than two dimensions.
        """
        pairs = {}
        for module, sides in self._found.items():
            if len(sides) == 1:
                [(side, (key, _))] = sides.items()
                other = self._layout.up if side == "down" else self._layout.down
                raise AdapterFormatError(
                    f"{self._path}: tensor {key!r} has no {other} beside it.",
                    hint="Save the adapter again; both matrices of a module are needed.",
                )
            (down_key, down), (up_key, up) = sides["down"], sides["up"]
            for (key, tensor), (_, other_tensor) in ((sides["down"], sides["up"]), (sides["up"], sides["down"])):
                self._check(key, tensor, other_tensor)
            pair = Pair(self._path, down_key, up_key, down, up, self._layout)
            if pair.rank != pair.rank_of_up:
                raise AdapterFormatError(
                    f"{self._path}: module {module!r} has {_dims(down)} and {_dims(up)} as its {self._layout.down} and "
                    f"{self._layout.up}; the ranks {pair.rank} and {pair.rank_of_up} differ.",
                    hint=f"{self._layout.down} must be {self._layout.sides[0]} and {self._layout.up} "
                    f"{self._layout.sides[1]}, neither transposed.",
                )
            pairs[module] = pair
        return pairs

    def _check(self, key: str, tensor: StoredTensor, other: StoredTensor) -> None:
        shape = tensor.shape
        if 0 in shape:
            raise AdapterFormatError(
                f"{self._path}: tensor {key!r} is empty: no value of it was saved.", hint=UNGATHERED
            )
        if len(shape) > 2 and not (self._layout.convolutions and set(shape[2:]) == {1}):
            raise self._too_many_sides(key, shape, other.shape)
        if not tensor.is_float:
            raise AdapterFormatError(
                f"{self._path}: tensor {key!r} is stored as {tensor.dtype}.",
                hint="Save the adapter as float32, float16 or bfloat16, not quantised.",
            )
        if len(shape) < 2:
            raise AdapterFormatError(
                f"{self._path}: tensor {key!r} has {len(shape)} dimensions, so it is not a matrix.",
                hint=f"Give r × d_in and d_out × r. A flat tensor is usually a shard. {UNGATHERED}",
            )

    def _too_many_sides(self, key: str, shape: tuple[int, ...], other: tuple[int, ...]) -> AdapterFormatError:
        sides = f"{self._path}: tensor {key!r} has {len(shape)} dimensions"
        stacked = len(shape) == len(other) == 3 and shape[0] == other[0] and shape[1:] != (1, 1)
        # Experts: (E, r, d_in) with (E, d_out, r), in either order. Convolutions: (r, d_in, k) with (d_out, r, 1).
        if stacked and (shape[1] == other[2] or shape[2] == other[1]):
            return AdapterFormatError(
                f"{sides}: LoRA on {shape[0]} stacked experts is not supported.",
                hint="Save each expert's two matrices as a module of its own, or target layers that are not experts.",
            )
        return AdapterFormatError(
            f"{sides}: LoRA on a convolution is not supported, nor are stacked experts.",
            hint="Target linear layers only.",
        )


def _dims(tensor: StoredTensor) -> str:
    return " × ".join(map(str, tensor.shape))


def adapter_of(path: Path, pairs: Mapping[str, Pair], scaling: Callable[[str, Pair], float]) -> LoRAAdapter:
    """The adapter of all pairs, each with the scaling that ``scaling`` returns.

    Raises:
        AdapterFormatError: There is no pair, or one is not valid.
    """
    if not pairs:
        raise no_matrix(path)
    modules = [pair.module(name, scaling(name, pair)) for name, pair in pairs.items()]
    return LoRAAdapter.from_modules(modules, source=str(path))


def no_matrix(path: Path) -> AdapterFormatError:
    """The refusal of a file without any LoRA matrix."""
    return AdapterFormatError(
        f"{path}: it holds no LoRA matrix.",
        hint=f"Check that it is the adapter and that training saved it whole. {UNGATHERED}",
    )


def number(path: Path, key: str, tensor: StoredTensor) -> float:
    """The number in a tensor of size 1, as an α is stored.

    Raises:
        AdapterFormatError: It is not a single finite number.
    """
    if math.prod(tensor.shape) == 1:
        if tensor.is_float:
            value = float(tensor.widened().reshape(()))
        elif tensor.dtype in ("I64", "I32", "I16", "I8", "U8"):
            value = float(np.frombuffer(tensor.data, f"<{tensor.dtype[0].lower()}{int(tensor.dtype[1:]) // 8}")[0])
        else:
            value = math.nan
        if math.isfinite(value):
            return value
    raise AdapterFormatError(
        f"{path}: tensor {key!r} is not a single finite number.",
        hint="Save α as a scalar of float32, float16 or bfloat16.",
    )
