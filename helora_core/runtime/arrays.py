"""Activations from files, and Δ to files: .npy and .npz, never pickles, and written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.atomic import replacing
from helora_core.errors import InvalidInput
from helora_core.packing.protocol import Vector


def read_activations(path: Path, modules: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The activations of each module: one array for all (.npy), or one each by name (.npz).

    Raises:
        InvalidInput: The file is missing, damaged or pickled, or has no array for a module.
    """
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return dict.fromkeys(modules, loaded)
            absent = [name for name in modules if name not in loaded]
            arrays = {name: loaded[name] for name in modules if name in loaded}
    except Exception as error:  # on damaged files zipfile and NumPy raise whatever their inner workings stumble on
        raise InvalidInput(
            f"{path}: no activations could be read ({error}).",
            hint="Save them with numpy.save(path, x), x of shape (tokens, d_in) and a float dtype.",
        ) from error
    if absent:
        raise InvalidInput(
            f"{path}: there is no array for {', '.join(absent[:3])}{' and others' if len(absent) > 3 else ''}.",
            hint="Name each array after its module, or choose modules with --module.",
        )
    return arrays


def check_target(path: Path) -> None:
    """Refuse what ``write_array`` would refuse, as far as that can be known beforehand.

    Raises:
        InvalidInput: The path is not an .npy file's, or its directory does not exist.
    """
    if path.suffix != ".npy":
        raise InvalidInput(f"{path}: Δ is written as .npy.", hint="Give an output path that ends in .npy.")
    if not path.parent.is_dir():
        raise InvalidInput(
            f"{path}: cannot be written, since {path.parent} is not a directory.", hint="Make the directory first."
        )


def write_array(path: Path, array: Vector) -> None:
    """Write one .npy file, to a temporary name first.

    Raises:
        InvalidInput: The path is not an .npy file's, or cannot be written.
    """
    check_target(path)
    with replacing(path) as file:
        np.save(file, array, allow_pickle=False)
