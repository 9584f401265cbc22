"""Adapters as one ``.npz`` file: ``<module>.down``, ``<module>.up`` and ``<module>.scaling`` for each module.

The format is for tests, small experiments and weights that do not come from PEFT. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAAdapter, LoRAModule, module_from_file
from helora_core.errors import AdapterFormatError, InvalidInput
from helora_core.files.atomic import replacing
from helora_core.files.malformed import Malformed
from helora_core.files.npy import read_arrays

_FIELDS = ("down", "up", "scaling")


def save_npz(adapter: LoRAAdapter, path: str | os.PathLike[str]) -> None:
    """Write ``adapter`` so that `load_npz` gives the same digest. An existing file is replaced, in one step.

    Raises:
        InvalidInput: The name does not end in ``.npz``, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise InvalidInput(f"{target}: the name does not end in .npz.", hint=f"Save to {target.stem or 'adapter'}.npz.")
    arrays: dict[str, Any] = {}
    for name, module in adapter.modules.items():
        values = (module.down, module.up, np.float64(module.scaling))
        arrays.update((f"{name}.{field}", np.asarray(value)) for field, value in zip(_FIELDS, values, strict=True))
    with replacing(target) as file:
        np.savez(file, **arrays)


def load_npz(path: str | os.PathLike[str]) -> LoRAAdapter:
    """Load an adapter as `save_npz` writes it. Matrices may be float16, float32 or float64.

    Raises:
        AdapterFormatError: The file is missing, damaged, pickled or would unpack to far too much data; an array is
            unknown or missing; or a module is not valid (see `LoRAModule`).
    """
    source = Path(path)
    fields: dict[str, dict[str, NDArray[Any]]] = {}
    for key, values in _read_arrays(source).items():
        module, _, field = key.rpartition(".")
        if not module or field not in _FIELDS:
            raise AdapterFormatError(
                f"{source}: the array {key!r} is not part of a LoRA module.",
                hint="Name the arrays <module>.down, <module>.up and <module>.scaling, and keep nothing else there.",
            )
        fields.setdefault(module, {})[field] = values
    modules = [_module(source, name, found) for name, found in fields.items()]
    return LoRAAdapter.from_modules(modules, source=str(source))


def _read_arrays(source: Path) -> dict[str, NDArray[Any]]:
    try:
        found = read_arrays(source)
    except (Malformed, OSError) as error:
        why = error.reason if isinstance(error, Malformed) else error.strerror or error
        raise AdapterFormatError(
            f"{source}: cannot be read as an .npz file ({why}).",
            hint="Give a file that save_npz or numpy.savez wrote, whole, with plain number arrays in it.",
        ) from error
    if isinstance(found, dict):
        return found
    raise AdapterFormatError(
        f"{source}: it holds a single array, not an .npz archive.",
        hint="Write the adapter with save_npz or numpy.savez.",
    )


def _module(source: Path, name: str, found: dict[str, NDArray[Any]]) -> LoRAModule:
    missing = [field for field in _FIELDS if field not in found]
    if missing:
        raise AdapterFormatError(
            f"{source}: module {name!r} has no {' and no '.join(missing)}.",
            hint=f"Store {', '.join(f'{name}.{field}' for field in missing)} as well.",
        )
    scaling = found["scaling"]
    if scaling.shape != () or scaling.dtype.kind not in "fiu":
        raise AdapterFormatError(
            f"{source}: the scaling of module {name!r} is an array of {scaling.dtype} and shape {scaling.shape}.",
            hint="Store the scaling as a single real number.",
        )
    return module_from_file(source, name, found["down"], found["up"], float(scaling))
