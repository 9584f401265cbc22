"""The line that a hint names is one that can be run: from where this helora came, and never from the package index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helora_core.installing import IN_CHECKOUT, _line, install_line
from tests.docs.command_lines import ROOT

EXTRAS = (*IN_CHECKOUT, "keys", "conformance")


@pytest.mark.parametrize("extra", EXTRAS)
def test_in_a_checkout_it_names_folders_that_there_are(extra: str) -> None:
    line = _line(ROOT, extra, "0.1.0")
    assert line.startswith("pip install -e ")
    folders = re.findall(r"-e '?([\w./-]+)(?:\[(\w+)\])?'?", line)
    assert folders
    for folder, wanted in folders:
        project = (ROOT / folder / "pyproject.toml").read_text()
        assert not wanted or re.search(rf"(?m)^{wanted} = \[", project)


@pytest.mark.parametrize("extra", EXTRAS)
def test_elsewhere_it_names_the_folder_of_wheels_and_one_version(extra: str, tmp_path: Path) -> None:
    assert _line(tmp_path, extra, "0.1.0") == f"pip install --find-links {tmp_path} 'helora-core[{extra}]==0.1.0'"
    assert "--find-links WHEELS 'helora-core[" in _line(None, extra, "0.1.0")


def test_every_extra_is_one_of_core_s() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"(?m)^{extra} = \[", project) for extra in EXTRAS)


def test_it_is_of_this_installation() -> None:
    assert re.match(r"pip install (-e|--find-links) ", install_line("tenseal"))


INDEX = re.compile(r"pip install (?!-)[^\n`]*['\" ]helora-(?!acme|zeta)")
"""``pip install helora-…`` with nothing before it that says from where."""


def test_nobody_is_told_to_install_our_names_from_the_index() -> None:
    patterns = ("*.md", "docs/**/*.md", "helora_core/**/*.py", "plugins/*/src/**/*.py", "plugins/*/*.md",
                "harness/**/*.py", "examples/**/*.md")  # fmt: skip
    files = [file for pattern in patterns for file in ROOT.glob(pattern)]
    assert len(files) > 300
    told = [f"{file}: {found[0]}" for file in files for found in INDEX.finditer(file.read_text(encoding="utf-8"))
            if "docs/adr" not in str(file)]  # fmt: skip
    assert told == []
    assert INDEX.search("pip install 'helora-tenseal[native]'")  # that it would be seen
