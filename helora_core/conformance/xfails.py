"""Known failures: ``xfails.toml``, which the backend's implementer owns, beside the test or one folder above it.

::

    [test_rotation_works_at_the_last_level]
    reason = "libfoo 1.2 drops the last prime; see its issue 34"

A table's name is a law's id. A reason is required, the law must exist, and a law that passes although it is listed
fails the run: the list can only shrink to what is true.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "xfails.toml"


def mark_known_failures(laws: Sequence[pytest.Item]) -> None:
    """Mark the laws that their plugins' xfails.toml lists.

    Raises:
        pytest.UsageError: The file is no TOML, an entry has no reason, or names no law of the kit.
    """
    for item in laws:
        path = _file_for(item)
        entry = _entries(path).get(item.originalname) if path and isinstance(item, pytest.Function) else None
        if entry is not None:
            item.add_marker(pytest.mark.xfail(reason=entry, strict=True))


def _file_for(item: pytest.Item) -> Path | None:
    folder = item.path.parent
    return next((place / FILE for place in (folder, folder.parent) if (place / FILE).is_file()), None)


def _entries(path: Path) -> dict[str, str]:
    """Reason by law."""
    from helora_core.conformance.base import STANDARD_TESTS

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise pytest.UsageError(f"{path}: {error}") from error
    entries = {}
    for law, table in tables.items():
        reason = table.get("reason") if isinstance(table, dict) else None
        if not isinstance(reason, str) or not reason.strip() or set(table) != {"reason"}:
            raise pytest.UsageError(f"{path}: [{law}] needs a reason, as text, and nothing else")
        if law not in STANDARD_TESTS:
            raise pytest.UsageError(f"{path}: the kit has no law {law!r}")
        entries[law] = reason
    return entries
