"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from helora_core.errors import InvalidInput


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside ``path`` that takes its place when the block ends without an error, and else is deleted.

    It is opened plainly, not by ``tempfile``, so that it gets the permissions the user's umask gives any new file.

    Raises:
        InvalidInput: The place cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with open(unfinished, "xb") as file:
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
        with suppress(OSError):  # gone after os.replace; if it cannot be deleted, the error under way says why
            unfinished.unlink()
