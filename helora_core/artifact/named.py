"""Artifacts as a command names them: ``NAME=DIRECTORY`` for several, a directory for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helora_core.artifact.manifest import MANIFEST
from helora_core.errors import InvalidInput


def by_name(artifacts: Sequence[str], who: str) -> dict[str, Path]:
    """The directories by the names given to them; ``""`` for the only one, if it has none.

    Args:
        artifacts: What the command was given.
        who: The command, for refusals.

    Raises:
        InvalidInput: One is no artifact, or several have no name or the same.
    """
    found: dict[str, Path] = {}
    for each in artifacts:
        name, equals, directory = each.rpartition("=")
        if not (Path(directory) / MANIFEST).is_file():
            raise InvalidInput(
                f"{who}: {directory} is no compiled artifact (it has no {MANIFEST}).",
                hint="Make one of an adapter: helora compile --adapter DIR --out served",
            )
        if not equals and len(artifacts) == 1:
            return {"": Path(directory)}
        if not name or name in found:
            raise InvalidInput(
                f"{who}: {each} has {'the name of another' if name else 'no name'}.",
                hint="Several artifacts are told apart by names: legal=DIR medical=OTHER",
            )
        found[name] = Path(directory)
    return found
