"""The artifacts that a server is started with, by the names that clients ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helora_core.errors import InvalidInput

if TYPE_CHECKING:
    from helora_core.parties.batches import AllBatches
    from helora_core.parties.server import Server
    from helora_core.privacy.leakage import Assumption
    from helora_serve.limits import Limits


def by_name(artifacts: Sequence[str]) -> dict[str, Path]:
    """The directories by the names given to them; ``""`` for the only one, if it has none.

    Raises:
        InvalidInput: One is no artifact, or several have no name or the same.
    """
    from helora_core.artifact.manifest import MANIFEST

    found: dict[str, Path] = {}
    for each in artifacts:
        name, equals, directory = each.rpartition("=")
        if not (Path(directory) / MANIFEST).is_file():
            raise InvalidInput(
                f"Serve: {directory} is no compiled artifact (it has no {MANIFEST}).",
                hint="Make one of an adapter: helora compile --adapter DIR --out served",
            )
        if not equals and len(artifacts) == 1:
            return {"": Path(directory)}
        if not name or name in found:
            raise InvalidInput(
                f"Serve: {each} has {'the name of another' if name else 'no name'}.",
                hint="Several artifacts are told apart by names: legal=DIR medical=OTHER",
            )
        found[name] = Path(directory)
    return found


class Artifacts:
    """Loads artifacts; called again to load them anew.

    Args:
        directories: As ``by_name`` gives them.
        backend: Name of the backend; the best that can run all plans if None.
        allow_emulation: Let a backend be chosen that encrypts nothing.
        assume: What is accepted of clients.
        limits: The limits.
    """

    def __init__(
        self,
        directories: dict[str, Path],
        *,
        limits: Limits,
        backend: str | None = None,
        allow_emulation: bool = False,
        assume: frozenset[Assumption] = frozenset(),
    ) -> None:
        self._directories, self._limits = directories, limits
        self._backend, self._allow_emulation, self._assume = backend, allow_emulation, assume

    def __call__(self, batches: AllBatches) -> tuple[Server, tuple[bytes, ...]]:
        """The server, and what tells its weights from others. Errors are those of ``Server.load``."""
        from helora_core.artifact.plan_file import Demands
        from helora_core.execution.constants import ConstantCache
        from helora_core.parties.server import Server
        from helora_serve.catalogue import stamps_of

        stamps = stamps_of(self._directories)
        only = self._directories.get("")
        server = Server.load(
            only if only is not None else self._directories,
            backend=self._backend,
            allow_emulation=self._allow_emulation,
            demands=Demands(assume=self._assume),
            limits=self._limits.of_server,
            store=batches,
        )
        server.served.constants = ConstantCache(self._limits.weight_bytes)
        return server, stamps
