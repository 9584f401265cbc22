"""Reads activations from NumPy and safetensors files, never from pickles, and writes Δ, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.containers import Kind, kind_of
from helora_core.adapter.lora import FloatArray
from helora_core.adapter.safetensors_io import StoredTensor, read_safetensors
from helora_core.errors import AdapterFormatError, InvalidInput
from helora_core.files.atomic import replacing
from helora_core.files.malformed import Malformed
from helora_core.files.npy import read_arrays

_SAVE = "Save them with numpy.save(path, x), x of shape (tokens, d_in) and a float dtype."
_SAVE_FROM_TORCH = (
    "Where the tensor is at hand, write numpy.save(path, x.float().cpu().numpy()), of shape (tokens, d_in), or "
    "safetensors.torch.save_file({'x': x}, path)."
)
_NO_MODULE = frozenset({"x", "input", "inputs", "activations", "hidden_states", "data", "tensor"})
"""Names of a tensor meant for every module. A tensor under a module's name is for that module only."""

_FROM_TORCH = (Kind.TORCH_ZIP, Kind.PICKLE)


def read_activations(path: Path, modules: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The activations of each module, from a file whose format is told by its content.

    An ``.npy`` file has one array for all modules, an ``.npz`` archive one for each by name; a safetensors file has
    either one for all or one for each. bfloat16, which NumPy does not have and saves as ``|V2``, is widened.

    Raises:
        InvalidInput: The file is missing, damaged, pickled or of another kind, or has no array for a module.
    """
    try:
        kind = kind_of(path)
    except OSError as error:
        raise InvalidInput(f"{path}: no activations could be read ({error.strerror or error}).", hint=_SAVE) from error
    if kind is Kind.SAFETENSORS:
        return _from_safetensors(path, modules)
    if kind in (Kind.NPY, Kind.NPZ):
        loaded = _from_numpy(path, modules)
        if isinstance(loaded, np.ndarray):
            return dict.fromkeys(modules, _widened(loaded))
        return {name: _widened(values) for name, values in _of_each(path, loaded, modules).items()}
    raise InvalidInput(
        f"{path}: no activations could be read: it is {kind.value}.",
        hint=f"No pickle is read. {_SAVE_FROM_TORCH}" if kind in _FROM_TORCH else _SAVE,
    )


def _from_safetensors(path: Path, modules: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        tensors = read_safetensors(path)
    except AdapterFormatError as error:
        raise InvalidInput(error.message, hint=f"Fetch or save it again. {_SAVE}") from error
    for name, tensor in tensors.items():
        if not tensor.is_float:
            raise InvalidInput(
                f"{path}: tensor {name!r} is stored as {tensor.dtype}.", hint="Save it as float32, float16 or bfloat16."
            )
    if len(tensors) == 1 and (alone := next(iter(tensors))) in _NO_MODULE and alone not in modules:
        return dict.fromkeys(modules, tensors[alone].widened())
    return {name: tensor.widened() for name, tensor in _of_each(path, tensors, modules).items()}


def _of_each(path: Path, arrays: Mapping[str, Any], modules: Sequence[str]) -> dict[str, Any]:
    absent = [name for name in modules if name not in arrays]
    if absent:
        raise InvalidInput(
            f"{path}: there is no array for {', '.join(absent[:3])}{' and others' if len(absent) > 3 else ''}.",
            hint="Name each array after its module, or choose modules with --module. A safetensors file may "
            "also have one tensor for all of them, named x.",
        )
    return {name: arrays[name] for name in modules}


def _from_numpy(path: Path, modules: Sequence[str]) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        return read_arrays(path, modules)
    except (Malformed, OSError) as error:
        why = error.reason if isinstance(error, Malformed) else error.strerror or error
        raise InvalidInput(f"{path}: no activations could be read: it {why}.", hint=_SAVE) from error


def _widened(values: NDArray[Any]) -> NDArray[Any]:
    """The values, with bfloat16 widened to float64 and all other types unchanged."""
    if values.dtype != np.dtype("V2"):
        return values
    return StoredTensor("BF16", values.shape, values.tobytes()).widened()


def check_target(path: Path) -> None:
    """Refuse a path that ``write_array`` would refuse, as far as that can be known beforehand.

    Raises:
        InvalidInput: The path does not end in .npy, or its directory does not exist.
    """
    if path.suffix != ".npy":
        raise InvalidInput(f"{path}: Δ is written as .npy.", hint="Give an output path that ends in .npy.")
    if not path.parent.is_dir():
        raise InvalidInput(
            f"{path}: cannot be written, since {path.parent} is not a directory.", hint="Make the directory first."
        )


def write_array(path: Path, array: FloatArray) -> None:
    """Write one .npy file, under a temporary name first.

    Raises:
        InvalidInput: The path does not end in .npy, or cannot be written.
    """
    check_target(path)
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)
