"""Files that a command will write, opened before it computes anything: no work is lost to a place that cannot be.

Each is a new file beside its target. When all is written they take the targets' places; where a command fails, they go,
and what was there before stays as it was.
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
    """Refuse a place that a file cannot be written to, as far as that can be known without writing.

    Raises:
        InvalidInput: The directory does not exist, there is something other than a plain file, or a file that may not
            be replaced: ``force`` was not given, or it is not the user's to write to.
    """
    if not path.parent.is_dir():
        raise InvalidInput(
            f"{path}: cannot be written, since {path.parent} is not a directory.", hint="Make the directory first."
        )
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_file():
        raise InvalidInput(
            f"{path}: cannot be written, since it is there already and not a plain file.", hint="Choose another path."
        )
    if not force:
        raise InvalidInput(f"{path}: is there already.", hint="Choose another path; --force replaces the file.")
    if not os.access(path, os.W_OK):
        raise InvalidInput(
            f"{path}: is there already, and may not be written to.",
            hint="Change its permissions, or choose another path.",
        )


class Outputs:
    """Files that are open and not yet where they belong. Use ``opened``.

    Args:
        paths: Where they belong.
        force: Replace plain files that are there.

    Raises:
        InvalidInput: One of the places cannot be written to, or two are the same.
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
                    # Plainly, not by tempfile: it gets the permissions that the user's umask gives any new file.
                    self._open[path] = unfinished, open(unfinished, "xb")  # noqa: SIM115 - closed by keep or discard
        except BaseException:
            self.discard()
            raise

    def write(self, path: Path, save: Callable[[BinaryIO], object]) -> None:
        """Let ``save`` write the file of one path.

        Raises:
            InvalidInput: The disk is full, or fails.
        """
        _, file = self._open[path]
        with saying_where(path):
            save(file)
            file.flush()
            os.fsync(file.fileno())

    def keep(self) -> None:
        """Put all files in their places.

        Raises:
            InvalidInput: One cannot be put there any more, and stays beside.
        """
        for _, file in self._open.values():
            file.close()
        while self._open:
            path, (unfinished, _) = next(iter(self._open.items()))
            del self._open[path]
            try:
                self._put(unfinished, path)
            except OSError as error:
                why = "something else was written there meanwhile" if isinstance(error, FileExistsError) else error
                raise InvalidInput(
                    f"{path}: cannot be written, since {why}; the result is in {unfinished}.",
                    hint="Move it to where you want it.",
                ) from error

    def _put(self, unfinished: Path, path: Path) -> None:
        if self._force:
            os.replace(unfinished, path)
            return
        try:
            os.link(unfinished, path)  # unlike a rename, it fails where there is something by now
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists() or path.is_symlink():
                raise FileExistsError from None
            os.replace(unfinished, path)
        else:
            unfinished.unlink()

    def discard(self) -> None:
        """Remove all that was not put in its place."""
        for unfinished, file in self._open.values():
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                unfinished.unlink()
        self._open.clear()


@contextmanager
def opened(paths: Iterable[Path], *, force: bool) -> Iterator[Outputs]:
    """Files for the block to write, which are put in their places if it ends without an error, and else removed.

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
    """Turn errors of the system into refusals that name ``path``.

    Raises:
        InvalidInput: It cannot be written to.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError of a name with a null character
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidInput(
            f"{path}: cannot be written ({why}).",
            hint="Choose a path in an existing directory that you may write to, on a disk with room.",
        ) from error
