"""What a release is held to: its changelog and its bill of materials."""

from __future__ import annotations

import copy
import sys
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docs.command_lines import ROOT

sys.path.append(str(ROOT / ".ci"))
import bill
import changelog

CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_changelog_is_in_its_format() -> None:
    assert list(changelog.malformed(CHANGES)) == []


NEWS = st.lists(st.sampled_from(["- One.\n", "- Two,\n  three.\n"]), min_size=1, max_size=4).map("".join)


@given(NEWS, st.sampled_from(changelog.KINDS), st.sampled_from(["0.2.0", "1.0.0", "10.3.4"]))
def test_a_released_changelog_is_right_for_its_version_alone_and_keeps_every_line(
    news: str, kind: str, version: str
) -> None:
    before = f"# Changelog\n\n## [Unreleased]\n\n### {kind}\n\n{news}\n## [0.1.0] - 2026-01-02\n\n### Added\n\n- All.\n"
    after = changelog.released(before, version, date(2026, 3, 4))
    assert list(changelog.wrong(after, version)) == []
    assert list(changelog.wrong(after, "0.1.0")) != []
    assert list(changelog.wrong(before, "0.1.0")) != []
    assert set(before.splitlines()) < set(after.splitlines())
    with pytest.raises(ValueError, match="nothing under"):
        changelog.released(after, "99.0.0", date(2026, 3, 5))


@pytest.mark.parametrize("wrong", [
    "## [Unreleased]\n\n## [1.0.0]\n\n### Added\n\n- x\n",
    "## [Unreleased]\n\n## [1.0.0] - 2026-01-02\n",
    "## [Unreleased]\n\n## [1.0.0] - 2026-01-02\n\n### News\n\n- x\n",
    "## [Unreleased]\n\n## [1.0.0] - 2026-01-02\n\n- x\n",
    "## [1.1.0] - 2026-01-02\n\n### Added\n\n- x\n\n## [1.0.0] - 2026-02-03\n\n### Added\n\n- y\n",
])  # fmt: skip
def test_what_is_not_in_the_format_is_named(wrong: str) -> None:
    assert list(changelog.malformed(wrong)) != []


BILL: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "components": [
        {"bom-ref": "a", "name": "helora-core", "version": "1.0", "licenses": [{"license": {"id": "Apache-2.0"}}]},
        {"bom-ref": "b", "name": "NumPy", "version": "2.0"},
    ],
    "dependencies": [{"ref": "a", "dependsOn": ["b"]}, {"ref": "b"}],
}
INSTALLED: bill.Installed = {"helora-core": ("1.0", [("numpy", False), ("tomli", True)]), "numpy": ("2.0", [])}


def test_a_bill_lists_what_was_installed_under_our_licence_and_who_asks_for_whom() -> None:
    assert list(bill.wrong(BILL, INSTALLED, ["helora-core"], "1.0")) == []
    for path, value in [
        (("specVersion",), "1.5"), (("components", 1, "version"), "3.0"), (("components", 0, "licenses"), []),
        (("dependencies", 0, "dependsOn"), []),
    ]:  # fmt: skip
        other: Any = copy.deepcopy(BILL)
        place = other
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert list(bill.wrong(other, INSTALLED, ["helora-core"], "1.0")) != [], path
    assert list(bill.wrong(BILL, {**INSTALLED, "rich": ("1", [])}, ["helora-core"], "1.0")) != []
    assert list(bill.wrong(BILL, INSTALLED, ["helora-core", "helora-rns"], "1.0")) != []
