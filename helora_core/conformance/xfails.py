"""Known failures of a backend, listed by its author in ``xfails.toml``, beside the test or one folder above it.

::

    [test_rotation_works_at_the_last_level]
    reason = "libfoo 1.2 drops the last prime; see its issue 34"

    ["test_rotate_moves_slots_to_the_left_cyclically[4095]"]
    reason = "libfoo 1.2 has no key for N/2 - 1"

A table's name is a law's id, with the parameter in brackets if the law fails for that one only. A reason is required,
the law must exist, and a law that passes although it is listed fails the run, so that the list stays true.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from helora_core.files.malformed import Malformed
from helora_core.files.strict_toml import read_toml

FILE = "xfails.toml"


def mark_known_failures(laws: Sequence[pytest.Item], *, partial: bool) -> None:
    """Mark the laws that their plugins' xfails.toml lists.

    Args:
        laws: The laws that were collected.
        partial: Whether only some parameters of a law may have been collected, so that others may exist.

    Raises:
        pytest.UsageError: The file is not TOML, an entry has no reason, or names no law of the kit; or the test class
            hides failing laws in another way.
    """
    files = {path: _entries(path) for path in map(_file_for, laws) if path}
    collected = {item.name for item in laws}
    for path, entries in files.items():
        unknown = [law for law in entries if law.endswith("]") and law not in collected]
        if unknown and not partial:
            raise pytest.UsageError(f"{path}: the kit has no law {unknown[0]!r}")
    for item in laws:
        _refuse_other_ways(item)
        own = _file_for(item)
        entries = files[own] if own else {}
        reason = entries.get(item.name) or entries.get(_base_name(item.name))
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _base_name(name: str) -> str:
    """A law's id without its parameter."""
    return name.partition("[")[0]


def _refuse_other_ways(item: pytest.Item) -> None:
    """Refuse other ways to hide a failing law: xfail marks, and test classes that override the guard."""
    from helora_core.conformance.base import STANDARD_TESTS, BackendConformance

    if _base_name(item.name) in STANDARD_TESTS and next(item.iter_markers("xfail"), None) is not None:
        raise pytest.UsageError(f"{item.nodeid}: marked xfail; list known failures in {FILE} instead")
    guard = "test_no_standard_test_is_overridden_or_deleted"
    cls = getattr(item, "cls", None)
    if getattr(cls, guard, None) is not getattr(BackendConformance, guard):
        raise pytest.UsageError(f"{item.nodeid}: {guard} is overridden or deleted")


def _file_for(item: pytest.Item) -> Path | None:
    folder = item.path.parent
    return next((place / FILE for place in (folder, folder.parent) if (place / FILE).is_file()), None)


def _entries(path: Path) -> dict[str, str]:
    """Reason by law."""
    from helora_core.conformance.base import STANDARD_TESTS

    try:
        tables = read_toml(path)
    except Malformed as error:
        raise pytest.UsageError(f"{path} {error}") from error
    entries = {}
    for law, table in tables.items():
        reason = table.get("reason") if isinstance(table, dict) else None
        if not isinstance(reason, str) or not reason.strip() or set(table) != {"reason"}:
            raise pytest.UsageError(f"{path}: [{law}] needs a reason, as text, and nothing else")
        if _base_name(law) not in STANDARD_TESTS:
            raise pytest.UsageError(f"{path}: the kit has no law {law!r}")
        entries[law] = reason
    return entries
