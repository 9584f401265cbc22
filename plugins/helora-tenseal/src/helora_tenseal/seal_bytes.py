"""SEAL objects to bytes and back. TenSEAL's bindings only save to and load from paths.

On Linux the path names an anonymous memory file, so that nothing touches a disk; elsewhere a private temporary file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def _scratch() -> Iterator[tuple[int, str]]:
    """A new empty file, as descriptor and path."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("helora")
        try:
            yield descriptor, f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp(prefix="helora-")
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        os.unlink(path)


def saved(save: Callable[[str], object]) -> bytes:
    """The bytes that ``save(path)`` writes."""
    with _scratch() as (descriptor, path):
        save(path)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(0)
            return file.read()


def load(payload: bytes, load_path: Callable[[str], object]) -> None:
    """Let ``load_path(path)`` read ``payload``.

    Raises:
        ValueError, RuntimeError: As SEAL raises them for bytes that it cannot read.
    """
    with _scratch() as (descriptor, path):
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(payload)
        load_path(path)
