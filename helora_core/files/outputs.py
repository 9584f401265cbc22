"""Opens a command's output files before it computes anything, so that no work is lost to a path that cannot be written.

Each is a new file beside its target. When all are written, they replace the targets. If the command fails, they are
removed, and existing files stay as they were.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from helora_core.errors import InvalidInput


def check_output(path: Path, *, force: bool) -> None:
    """Refuse a path that a file cannot be written to, as far as that can be known without writing.

    Raises:
        InvalidInput: The directory does not exist; or the path is something other than a plain file, or a file that
            may not be replaced, since ``force`` is false or the user may not write to it.
    """
    if not path.parent.is_dir():
        raise InvalidInput(
            f"{path}: cannot be written, since {path.parent} is not a directory.", hint="Make the directory first."
        )
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_file():
        raise InvalidInput(
            f"{path}: cannot be written, since it already exists and is not a plain file.", hint="Choose another path."
        )
    if not force:
        raise InvalidInput(f"{path}: already exists.", hint="Choose another path; --force replaces the file.")
    if not os.access(path, os.W_OK):
        raise InvalidInput(
            f"{path}: already exists, and may not be written to.",
            hint="Change its permissions, or choose another path.",
        )


class Outputs:
    """Output files that are open under temporary names. Use ``opened`` to make them.

    Args:
        paths: The final paths.
        force: Whether existing plain files may be replaced.

    Raises:
        InvalidInput: One of the paths cannot be written to, or two are the same.
    """

    def __init__(self, paths: Iterable[Path], *, force: bool) -> None:
        self._force = force
        self._open: dict[Path, tuple[Path, BinaryIO]] = {}
        try:
            for path in paths:
                if path in self._open:
                    raise InvalidInput(f"{path}: two results would be written to it.", hint="Run them one by one.")
                with saying_where(path):
                    check_output(path, force=force)
                unfinished = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
                with saying_where(path):
                    # Directly, not by tempfile: it gets the permissions that the user's umask gives any new file.
                    self._open[path] = unfinished, open(unfinished, "xb")  # noqa: SIM115 - closed by keep or discard
        except BaseException:
            self.discard()
            raise

    def write(self, path: Path, save: Callable[[BinaryIO], object]) -> None:
        """Call ``save`` to write the file for ``path``.

        Raises:
            InvalidInput: The disk is full, or fails.
        """
        _, file = self._open[path]
        with saying_where(path):
            save(file)
            file.flush()
            os.fsync(file.fileno())

    def keep(self) -> None:
        """Move all files to their final paths.

        Raises:
            InvalidInput: A file can no longer be moved; it keeps its temporary name.
        """
        for _, file in self._open.values():
            file.close()
        while self._open:
            path, (unfinished, _) = next(iter(self._open.items()))
            del self._open[path]
            try:
                self._put(unfinished, path)
            except OSError as error:
                why = "something else has been written there" if isinstance(error, FileExistsError) else error
                raise InvalidInput(
                    f"{path}: cannot be written, since {why}; the result is in {unfinished}.",
                    hint="Move it to where you want it.",
                ) from error

    def _put(self, unfinished: Path, path: Path) -> None:
        if self._force:
            os.replace(unfinished, path)
            return
        try:
            os.link(unfinished, path)  # unlike a rename, it fails if there is something by now
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists() or path.is_symlink():
                raise FileExistsError from None
            os.replace(unfinished, path)
        else:
            unfinished.unlink()

    def discard(self) -> None:
        """Remove all files that were not moved to their final paths."""
        for unfinished, file in self._open.values():
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                unfinished.unlink()
        self._open.clear()


@contextmanager
def opened(paths: Iterable[Path], *, force: bool) -> Iterator[Outputs]:
    """Files for the block to write; they are moved to their paths if it ends without an error, and otherwise removed.

    Raises:
        InvalidInput: As ``Outputs`` and ``Outputs.keep`` do.
    """
    files = Outputs(paths, force=force)
    try:
        yield files
        files.keep()
    finally:
        files.discard()


@contextmanager
def saying_where(path: Path) -> Iterator[None]:
    """Turn system errors into refusals that name ``path``.

    Raises:
        InvalidInput: ``path`` cannot be written.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError from a name with a null character
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidInput(
            f"{path}: cannot be written ({why}).",
            hint="Choose a path in an existing directory that you may write to, on a disk with room.",
        ) from error
