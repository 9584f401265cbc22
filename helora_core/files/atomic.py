"""Writes files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from helora_core.errors import InvalidInput


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a new file beside ``path`` that replaces it if the block ends without an error, and is deleted otherwise.

    It is opened directly, not by ``tempfile``, so that it gets the permissions the user's umask gives any new file.

    Args:
        path: The file.
        private: Let nobody but the user read it.

    Raises:
        InvalidInput: The file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with open(unfinished, "xb", opener=_for_the_user if private else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise InvalidInput(
            f"{path}: cannot be written ({error.strerror or error}).",
            hint="Choose a path in an existing directory that you may write to, on a disk with room.",
        ) from error
    finally:
        with suppress(OSError):  # after os.replace it is gone; if it cannot be deleted, the error being raised says why
            unfinished.unlink()


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: a file is found after a crash only if its name is. Not on Windows, which
    has no such call.
    """
    if os.name == "nt":
        return
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _for_the_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
