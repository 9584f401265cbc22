"""Base models as browsers take them, converted once and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from helora_core.errors import InvalidInput
from helora_serve.base.convert import MANIFEST, convert
from helora_serve.base.manifest import SCHEMA, Manifest, Part, Weights
from helora_serve.split.stored import Stored


def converted(
    folder: Path,
    *,
    weights: Weights = "q8",
    part: Part = "whole",
    cache: Path | None = None,
    on_share: Callable[[float], object] = lambda share: None,
) -> Path:
    """The folder of a base model's pieces, made if it is not there. A model whose file changes is converted anew.

    Args:
        folder: As transformers saves it, or the result of a conversion.
        weights, part: As ``convert`` takes them.
        cache: Where converted models are kept; ``~/.cache/helora/browser`` or ``XDG_CACHE_HOME``'s if None.
        on_share: Called with the share that is converted.

    Raises:
        InvalidInput: As ``convert`` raises it; or the folder has the result of another conversion.
    """
    if (folder / MANIFEST).is_file():
        _require(folder, part)
        return folder
    try:
        files = [(str(each.resolve()), each.stat()) for each in Stored(folder).files]
        config = (folder / "config.json").read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"Base model {folder}: {Path(error.filename or folder).name} cannot be read ({error.strerror or error}).",
            hint="Name a folder that transformers saved, with its tokenizer; helora model fetch makes one.",
        ) from error
    of = ([(name, found.st_size, found.st_mtime_ns) for name, found in files], weights, part, config)
    root = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "helora" / "browser"
    target = root / f"{folder.resolve().name}-{hashlib.sha256(repr(of).encode()).hexdigest()[:16]}"
    if not (target / MANIFEST).is_file():
        convert(folder, target, weights=weights, part=part, on_share=on_share)
    return target


def _require(folder: Path, part: Part) -> None:
    try:
        found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        fits = (found.schema, found.part) == (SCHEMA, part)
    except (OSError, msgspec.DecodeError):
        fits = False
    if not fits:
        raise InvalidInput(
            f"Base model {folder}: it was converted for another page, or by another version.",
            hint="Name the folder that it was converted from.",
        )
