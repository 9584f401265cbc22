"""Files of an artifact, read as if an attacker had made them: no links, no devices, nothing larger than stated."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from helora_core.errors import ArtifactInvalid

_CHUNK = 1 << 20
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def damaged(path: Path, what: str) -> ArtifactInvalid:
    """The error that refuses one file."""
    return ArtifactInvalid(
        f"{path}: {what}.", hint="Copy the artifact again from where it was made, or compile the adapter again."
    )


def listing(directory: Path) -> Iterator[str]:
    """Paths of all files below ``directory``, relative and with ``/``, in order.

    Raises:
        ArtifactInvalid: There is a link or anything else that is neither file nor directory, a directory that holds
            nothing, or ``directory`` cannot be read.
    """
    yield from _below(directory, "")


def _below(directory: Path, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise damaged(directory, f"cannot be read as a directory ({error.strerror or error})") from error
    if prefix and not entries:
        raise damaged(directory, "is an empty directory, which artifacts do not have")
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and not prefix:
            yield from _below(directory / entry.name, f"{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield prefix + entry.name
        else:
            raise damaged(directory / entry.name, "is not a plain file where an artifact may have one")


def read_file(path: Path, *, most: int, stated: bool = False) -> bytes:
    """A plain file of at most ``most`` bytes, as the manifest states if ``stated``.

    Raises:
        ArtifactInvalid: It is missing, unreadable, a link, or larger.
    """
    try:
        with open(os.open(path, os.O_RDONLY | _NO_FOLLOW), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise damaged(path, "is not a plain file")
            if found.st_size > most:
                limit = f"the manifest states {most}" if stated else f"at most {most} are read"
                raise damaged(path, f"has {found.st_size} bytes, and {limit}")
            return file.read(most + 1)
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror or error})") from error


def read_hashed(path: Path, *, size: int, sha256: str) -> bytes:
    """A file that must have this size and hash; what is returned is what was hashed.

    Raises:
        ArtifactInvalid: Its size or hash differs; or as ``read_file`` raises it.
    """
    data = read_file(path, most=size, stated=True)
    if len(data) != size:
        raise damaged(path, f"has {len(data)} bytes, and the manifest states {size}: it was cut short or changed")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise damaged(path, "does not have the SHA-256 that the manifest states: it was changed")
    return data


def fingerprint(path: Path) -> tuple[int, str]:
    """Size and SHA-256 (hex) of a file that this process wrote."""
    state, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
            size += len(chunk)
    return size, state.hexdigest()
