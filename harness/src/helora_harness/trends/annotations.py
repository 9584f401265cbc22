"""Changes that were meant: ``harness/history/annotations.toml`` says at which commits, for whom reads the history.

Each ``[[change]]`` has ``commit``, a hash of at least twelve digits, and ``text``; ``metrics`` and ``cells`` narrow it
down to metrics and cells, as ``str(cell)`` writes them, that match one of their patterns.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from helora_core.errors import HeloraError
from helora_harness.rows import Cell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "annotations.toml"


class AnnotationsRefused(HeloraError):
    """The file of annotations is not one, or names a commit that this history does not have."""

    code: ClassVar[str] = "annotations-refused"


class Annotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of figures that was meant.

    Attributes:
        commit: Hash of the commit, or its beginning.
        text: What was changed, and why figures moved.
        metrics: Patterns of the metrics that it explains.
        cells: Patterns of the cells that it explains, in the words of ``str(cell)``.
    """

    commit: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12,64}$")]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    metrics: tuple[str, ...] = ("*",)
    cells: tuple[str, ...] = ("*",)

    def explains(self, commit: str, metric: str, cell: Cell) -> bool:
        """Whether it is about this metric of this cell at this commit."""
        return (
            commit.startswith(self.commit)
            and any(fnmatchcase(metric, pattern) for pattern in self.metrics)
            and any(fnmatchcase(str(cell), pattern) for pattern in self.cells)
        )


class _File(msgspec.Struct, forbid_unknown_fields=True):
    change: tuple[Annotation, ...] = ()


def read_annotations(file: Path, commits: Collection[str]) -> tuple[Annotation, ...]:
    """The annotations of a file; none if there is no such file.

    Args:
        file: As the module says.
        commits: Hashes of all commits of the history.

    Raises:
        AnnotationsRefused: It is no such file, or a commit is not among those, or its beginning fits several.
    """
    if not file.exists():
        return ()
    try:
        found = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _File)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise AnnotationsRefused(
            f"{file}: is not a file of annotations: {error}.", hint="Write [[change]] with commit and text."
        ) from error
    for each in found.change:
        fitting = [commit for commit in commits if commit.startswith(each.commit)]
        if len(fitting) != 1:
            raise AnnotationsRefused(
                f"{file}: {len(fitting)} commits of this history begin with {each.commit}.",
                hint="Take hashes of this branch; after a rebase they are others.",
            )
    return found.change
