"""The artifacts that a server is started with, by the names that clients ask for."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from helora_core.errors import HeloraError, InvalidInput

if TYPE_CHECKING:
    from helora_core.parties.batches import AllBatches
    from helora_core.parties.server import Server
    from helora_core.privacy.leakage import Assumption
    from helora_serve.catalogue import Loaded
    from helora_serve.limits import Limits


class Artifacts:
    """Loads artifacts; called again to load them anew.

    Weights are read when they are first asked for. So that an artifact may be replaced while sessions still use it, the
    server reads from a folder of its own, which has links to the files, or copies of them.

    Args:
        directories: As ``helora_core.artifact.named.by_name`` gives them.
        backend: Name of the backend; the best that can run all plans if None.
        allow_emulation: Let a backend be chosen that encrypts nothing.
        assume: What is accepted of clients.
        limits: The limits.
        folder: Where the folders of versions are made; the system's for temporary files if None.
    """

    def __init__(
        self,
        directories: dict[str, Path],
        *,
        limits: Limits,
        backend: str | None = None,
        allow_emulation: bool = False,
        assume: frozenset[Assumption] = frozenset(),
        folder: Path | None = None,
    ) -> None:
        self._directories, self._limits, self._folder = directories, limits, folder
        self._backend, self._allow_emulation, self._assume = backend, allow_emulation, assume

    def __call__(self, batches: AllBatches) -> Loaded:
        """The server. Errors are those of ``Server.load``, and ``InvalidInput`` if a folder cannot be read."""
        from helora_serve.catalogue import Loaded

        if self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="helora-version-", dir=self._folder))

        def close() -> None:
            shutil.rmtree(own, ignore_errors=True)

        try:
            mirrored = {name: _mirrored(each, own / str(i)) for i, (name, each) in enumerate(self._directories.items())}
            stamps = tuple(name.encode() + b"\0" + _manifest(each) for name, each in sorted(mirrored.items()))
            return Loaded(self._loaded(mirrored, batches), stamps, close)
        except HeloraError as error:
            close()
            for i, source in enumerate(self._directories.values()):  # what the user knows, in place of our copy
                error.args = (error.message.replace(str(own / str(i)), str(source)),)
                error.message = error.args[0]
            raise
        except BaseException:
            close()
            raise

    def _loaded(self, directories: dict[str, Path], batches: AllBatches) -> Server:
        from helora_core.artifact.plan_file import Demands
        from helora_core.execution.constants import ConstantCache
        from helora_core.parties.server import Server

        only = directories.get("")
        server = Server.load(
            only if only is not None else directories,
            backend=self._backend,
            allow_emulation=self._allow_emulation,
            demands=Demands(assume=self._assume),
            limits=self._limits.of_server,
            store=batches,
        )
        server.served.constants = ConstantCache(self._limits.weight_bytes)
        return server


def _mirrored(source: Path, target: Path) -> Path:
    """A folder with the same files: each a link to it, or a copy where there are no links."""
    try:
        shutil.copytree(source, target, copy_function=_link_or_copy)
    except (OSError, shutil.Error) as error:
        raise InvalidInput(
            f"Serve: {source} cannot be read ({getattr(error, 'strerror', None) or 'not all of its files'}).",
            hint="Compile the adapter into a folder that the server may read.",
        ) from error
    return target


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _manifest(directory: Path) -> bytes:
    """The artifact's manifest, which has the digests of all its files."""
    from helora_core.artifact.manifest import MANIFEST

    return (directory / MANIFEST).read_bytes()
