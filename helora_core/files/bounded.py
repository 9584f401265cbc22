"""Opens plain files only, and reads them up to a size limit."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from helora_core.files.malformed import Malformed

# O_NONBLOCK, because opening a pipe would otherwise wait for a writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def open_plain(path: Path) -> tuple[int, int]:
    """Open a plain file and return its descriptor and its size in bytes. Links are followed.

    Raises:
        OSError: It cannot be opened, or is a directory.
        Malformed: It is a device or a pipe.
    """
    descriptor = os.open(path, _FLAGS)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise Malformed("is not a plain file")
    return descriptor, found.st_size


def read_bytes(path: Path, *, most: int) -> bytes:
    """Read a plain file of at most ``most`` bytes.

    Raises:
        OSError: It cannot be read.
        Malformed: It is larger, or not a plain file.
    """
    descriptor, size = open_plain(path)
    with open(descriptor, "rb") as file:
        if size > most:
            raise Malformed(f"has {size} bytes, and at most {most} are read")
        data = file.read(most + 1)
    if len(data) > most:
        raise Malformed(f"grew while it was read, beyond {most} bytes")
    return data
