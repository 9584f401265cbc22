"""Where stores live in tests: places that can be copied, and in which a process can end at any step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from helora_core.parties.directory_store import DirectoryStore
from helora_core.parties.store import MemoryStore, Store, WrappedStore, Write


class Crash(BaseException):
    """The process ends here: nothing may catch it and go on."""


class Faults:
    """Ends the process at a step: right before or after a write in memory, or at a system call of a directory.

    Attributes:
        left: Steps until then; None for never. Once it has ended, every further step fails as well.
        steps: Steps so far.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.steps = 0

    def step(self) -> None:
        """A step, which may be the last one."""
        self.steps += 1
        if self.left is not None:
            if self.left <= 0:
                raise Crash
            self.left -= 1

    @contextmanager
    def at_system_calls(self) -> Iterator[None]:
        """Count fsync, replace and unlink as steps."""
        kept = os.fsync, os.replace, Path.unlink

        def counted(call: Callable[..., Any]) -> Any:
            def calling(*arguments: Any, **options: Any) -> Any:
                self.step()
                return call(*arguments, **options)

            return calling

        os.fsync, os.replace, Path.unlink = map(counted, kept)  # type: ignore[method-assign]
        try:
            yield
        finally:
            os.fsync, os.replace, Path.unlink = kept  # type: ignore[method-assign]


class Place(Protocol):
    """A store that outlives its process."""

    def open(self) -> Store:
        """The store, as a process that begins finds it."""
        ...

    def close(self) -> None:
        """The process that had it open is gone."""
        ...

    def copy(self) -> Place:
        """Another place with the same contents: a backup, or a clone."""
        ...


class Memory:
    """A place in memory, where every put is atomic."""

    def __init__(self, faults: Faults, disk: MemoryStore | None = None) -> None:
        self._faults, self._disk = faults, disk or MemoryStore()

    def open(self) -> Store:
        return _Faulty(self._disk, self._faults)

    def close(self) -> None:
        pass

    def copy(self) -> Memory:
        kept = {name: self._disk.get(name) or b"" for name in self._disk.names("")}
        return Memory(self._faults, MemoryStore(kept))


class _Faulty(WrappedStore):
    def __init__(self, disk: Store, faults: Faults) -> None:
        super().__init__(disk)
        self._faults = faults

    def put_many(self, writes: Sequence[Write]) -> None:
        self._faults.step()
        super().put_many(writes)
        self._faults.step()


class Directory:
    """A directory."""

    def __init__(self, path: Path) -> None:
        self._path, self._copies = path, 0
        self._open: DirectoryStore | None = None

    def open(self) -> Store:
        self._open = DirectoryStore(self._path)
        return self._open

    def close(self) -> None:
        if self._open:
            self._open.close()

    def copy(self) -> Directory:
        self._copies += 1
        to = self._path.with_name(f"{self._path.name}.{self._copies}")
        if self._path.exists():
            shutil.copytree(self._path, to)
        return Directory(to)

    def another(self) -> Directory:
        """The same one, for another process."""
        return Directory(self._path)
