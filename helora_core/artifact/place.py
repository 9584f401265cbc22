"""A directory that appears as a whole or not at all, and replaces nothing but an artifact.

It is made before its contents, so that no work is lost because the place cannot be written to.
"""

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
from helora_core.files.outputs import saying_where


def check_place(target: Path, *, replace: bool) -> None:
    """Refuse a place that ``write_artifact`` would not write to.

    Raises:
        InvalidInput: It already exists and is not an artifact to replace, or its parent is not a directory.
    """
    if not target.absolute().parent.is_dir():
        raise InvalidInput(
            f"{target}: cannot be written, since {target.parent} is not a directory.", hint="Make the directory first."
        )
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise InvalidInput(f"{target}: already exists, and is not a directory.", hint="Choose another place.")
    if not any(target.iterdir()):
        return
    if not replace:
        raise InvalidInput(
            f"{target}: already exists, and is not empty.", hint="Choose another place; --force replaces an artifact."
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
        f"{target}: will not be replaced, since it is not just an artifact: {why.rstrip('.')}.",
        hint="Choose another place, or remove it yourself.",
    )


@contextmanager
def taking_the_place(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new directory next to ``target`` that takes its place if the block ends without an error, else is deleted.

    It is made at once, so that a block that computes for hours finds out beforehand that it cannot write. What is at
    ``target`` at the end must pass ``check_place``; it is moved aside first, and moved back if the exchange fails.

    Raises:
        InvalidInput: The place cannot be written to; or no longer, and then the new directory stays next to it.
    """
    target = Path(os.path.abspath(target))
    with saying_where(target):
        check_place(target, replace=replace)
    mark = secrets.token_hex(6)
    unfinished = target.with_name(f".{target.name}.{mark}.part")
    with saying_where(target):
        unfinished.mkdir()
    try:
        yield unfinished
        with saying_where(target):
            sync_directory(unfinished)
        _exchange(unfinished, target, target.with_name(f".{target.name}.{mark}.old"), replace=replace)
    except _Kept as kept:
        raise kept.refusal from kept.__cause__
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


class _Kept(Exception):
    """The new directory cannot take its place, and is not deleted either."""

    def __init__(self, refusal: InvalidInput) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def _exchange(unfinished: Path, target: Path, aside: Path, *, replace: bool) -> None:
    """Put ``unfinished`` in the place of ``target``, which may have changed meanwhile."""
    try:
        check_place(target, replace=replace)
        if target.exists():
            os.rename(target, aside)
        try:
            os.rename(unfinished, target)
        except OSError:
            if aside.exists():
                os.rename(aside, target)
            raise
    except (InvalidInput, OSError) as error:
        why = error.message.rstrip(".") if isinstance(error, InvalidInput) else f"{error.strerror or error}"
        raise _Kept(
            InvalidInput(
                f"{target}: can no longer be written ({why}); the new artifact is in {unfinished}.",
                hint="Move it to where you want it.",
            )
        ) from error
    sync_directory(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, on the disk when the block ends."""
    with open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Sync a directory's entries to the disk, if the system lets directories be opened."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
