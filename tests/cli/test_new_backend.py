"""``helora new-backend``: what it writes, what it says to do next, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.host.manager import get_manager
from helora_core.host.scaffold import left_to_fill_in


def test_it_writes_a_distribution_here_and_says_what_to_do(helora: Callable[..., Any], tmp_path: Path) -> None:
    shown = helora("new-backend", "zeta")
    assert shown.exit_code == 0
    folder = tmp_path / "helora-zeta"
    assert (folder / "src" / "helora_zeta" / "library.py").is_file()
    for step in ("cd helora-zeta", "pip install -e . hypothesis pytest", "helora conform zeta", "pytest"):
        assert f"  {step}\n" in shown.stdout
    lines = shown.stdout.splitlines()
    marks = left_to_fill_in(folder)
    assert lines[-len(marks) :] == [f"  {mark.number:>2}  {mark.what}  ({mark.path}:{mark.line})" for mark in marks]


@pytest.mark.parametrize("option", ["-d", "--directory"])
def test_it_writes_elsewhere(helora: Callable[..., Any], tmp_path: Path, option: str) -> None:
    (tmp_path / "plugins").mkdir()
    shown = helora("new-backend", "two_words", option, "plugins")
    assert shown.exit_code == 0
    assert "cd plugins/helora-two-words\n" in shown.stdout
    assert (tmp_path / "plugins" / "helora-two-words" / "pyproject.toml").is_file()


def test_programs_get_the_same(helora_json: Callable[..., Any], tmp_path: Path) -> None:
    document = helora_json("new-backend", "zeta")
    fill_in = document.pop("fill_in")
    assert document == {"distribution": "helora-zeta", "directory": "helora-zeta", "backend": "zeta"}
    marks = left_to_fill_in(tmp_path / "helora-zeta")
    assert fill_in == [
        {"number": mark.number, "path": mark.path, "line": mark.line, "what": mark.what} for mark in marks
    ]


def test_malformed_names_are_refused(refusal: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    error = refusal("new-backend", "My-Lib")
    assert error["code"] == "invalid-input"
    assert "'my_lib'" in error["hint"]


def test_names_of_backends_and_plugins_are_refused(refusal: Callable[..., dict[str, str]]) -> None:
    manager = get_manager()
    taken = {*manager.backends(), *(plugin.plugin for plugin in manager.plugins)}
    assert "core" in taken
    assert len(taken) > 1
    for name in taken:
        assert "taken" in refusal("new-backend", name)["message"]


def test_a_folder_that_is_there_is_left_alone(refusal: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "helora-zeta").mkdir()
    error = refusal("new-backend", "zeta")
    assert "helora-zeta already exists" in error["message"]
    assert list((tmp_path / "helora-zeta").iterdir()) == []


def test_a_directory_that_is_not_there_is_refused(refusal: Callable[..., dict[str, str]]) -> None:
    assert "missing is not a directory" in refusal("new-backend", "zeta", "-d", "missing")["message"]
