"""A directory that appears whole or not at all, and takes the place of nothing but an artifact."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from helora_core.artifact.files import listing
from helora_core.artifact.manifest import MANIFEST, is_file_of_artifact
from helora_core.errors import HeloraError, InvalidInput


def check_place(target: Path, *, replace: bool) -> None:
    """Refuse what ``write_artifact`` would not write to.

    Raises:
        InvalidInput: There is something already that is no artifact to replace, or no directory to write in.
    """
    if not target.absolute().parent.is_dir():
        raise InvalidInput(
            f"{target}: cannot be written, since {target.parent} is not a directory.", hint="Make the directory first."
        )
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise InvalidInput(f"{target}: is there already, and not a directory.", hint="Choose another place.")
    if not any(target.iterdir()):
        return
    if not replace:
        raise InvalidInput(
            f"{target}: is there already, and not empty.", hint="Choose another place; --force replaces an artifact."
        )
    try:
        files = list(listing(target))
    except HeloraError as error:
        raise _no_artifact(target, error.message) from error
    others = [name for name in files if not is_file_of_artifact(name)]
    if others or MANIFEST not in files:
        raise _no_artifact(target, f"it holds {others[0]}" if others else f"it has no {MANIFEST}")


def _no_artifact(target: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{target}: will not be replaced, since it is not an artifact alone: {why.rstrip('.')}.",
        hint="Choose another place, or remove it yourself.",
    )


@contextmanager
def taking_the_place(target: Path) -> Iterator[Path]:
    """A new directory beside ``target`` that takes its place when the block ends without an error, else is deleted.

    What is there already must have passed ``check_place``; it is put aside first, and back if the exchange fails.

    Raises:
        InvalidInput: The place cannot be written to.
    """
    mark = secrets.token_hex(6)
    unfinished = target.with_name(f".{target.name}.{mark}.part")
    aside = target.with_name(f".{target.name}.{mark}.old")
    try:
        unfinished.mkdir()
        yield unfinished
        sync_directory(unfinished)
        if target.exists():
            os.rename(target, aside)
        try:
            os.rename(unfinished, target)
        except OSError:
            if aside.exists():
                os.rename(aside, target)
            raise
        sync_directory(target.parent)
    except OSError as error:
        raise InvalidInput(
            f"{target}: cannot be written ({error.strerror or error}).",
            hint="Choose a path in an existing directory that you may write to, on a disk with room.",
        ) from error
    finally:
        for leftover in (unfinished, aside):
            if target.exists() or leftover is unfinished:
                shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, on the disk when the block ends."""
    with open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to the disk, where the system lets directories be opened."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
