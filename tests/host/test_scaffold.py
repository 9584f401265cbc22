"""A backend from the template: whole or not at all, of a sound name, green in the kit, and clear about what is left."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import InvalidInput
from helora_core.host import scaffold
from helora_core.host.scaffold import FillIn, left_to_fill_in, new_backend, template_folder

ROOT = Path(scaffold.__file__).parents[2]
NAMES = ("a", "zeta", "two_words_2", "acme", "acme_gpu", "x" * 32)

Refused = Callable[..., AbstractContextManager[None]]


def files_of(folder: Path) -> dict[str, str]:
    """Text by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file() and not re.search(r"/(\.|__pycache__/)", path.relative_to(folder.parent).as_posix())
    }


# What is rendered


@pytest.mark.parametrize("name", NAMES)
def test_only_the_name_differs_from_the_template(name: str, tmp_path: Path) -> None:
    folder = new_backend(name, tmp_path)
    dashed, title = name.replace("_", "-"), "".join(word.capitalize() for word in name.split("_"))
    assert folder == tmp_path / f"helora-{dashed}"
    rendered, template = files_of(folder), files_of(template_folder())
    assert set(rendered) == {path.replace("acme", name) for path in template}
    for path, text in template.items():
        again = rendered[path.replace("acme", name)]
        words = iter(re.split(r"(helora-acme|acme|Acme)", text))
        for word in words:
            expected = {"helora-acme": f"helora-{dashed}", "acme": name, "Acme": title}.get(word, word)
            assert again.startswith(expected)
            again = again[len(expected) :]
        assert not again


def test_the_template_imports_nothing_of_other_plugins() -> None:
    for path, text in files_of(template_folder()).items():
        if path.endswith(".py"):
            for node in ast.walk(ast.parse(text)):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                assert not module.startswith("helora_") or module.split(".")[0] in {"helora_core", "helora_acme"}


# Where it is rendered


def test_nothing_is_overwritten(tmp_path: Path, refused: Refused) -> None:
    folder = new_backend("zeta", tmp_path)
    (folder / "README.md").write_text("mine", encoding="utf-8")
    before = files_of(tmp_path)
    with refused(InvalidInput, str(folder), "already exists"):
        new_backend("zeta", tmp_path)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "empty folder", "dangling link"])
def test_whatever_is_in_the_place_stays(kind: str, tmp_path: Path, refused: Refused) -> None:
    place = tmp_path / "helora-zeta"
    if kind == "file":
        place.touch()
    elif kind == "empty folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "nowhere")
    with refused(InvalidInput, "already exists"):
        new_backend("zeta", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["helora-zeta"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with refused(InvalidInput, "No space left on device"):
        new_backend("zeta", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_directory_must_be_there(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "missing", tmp_path / "file"):
        with refused(InvalidInput, str(directory), "is not a directory"):
            new_backend("zeta", directory)


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
def test_the_folder_is_as_open_as_the_user_makes_new_ones(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    assert new_backend("zeta", tmp_path).stat().st_mode == (tmp_path / "beside").stat().st_mode


def test_what_working_on_the_template_leaves_behind_is_not_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "template"
    shutil.copytree(template_folder(), copy)
    for litter in (".ruff_cache/x", "src/helora_acme/__pycache__/x.pyc", "dist/x.whl", "build/x"):
        (copy / litter).parent.mkdir(parents=True, exist_ok=True)
        (copy / litter).write_bytes(b"\xff")
    clean = files_of(new_backend("zeta", tmp_path))
    shutil.rmtree(tmp_path / "helora-zeta")
    monkeypatch.setattr(scaffold, "template_folder", lambda: copy)
    assert files_of(new_backend("zeta", tmp_path)) == clean


def test_a_template_in_the_package_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    """Installed from a wheel there is no checkout; in a checkout there is none in the package."""
    package = tmp_path / "site" / "helora_core"
    monkeypatch.setattr(scaffold, "__file__", str(package / "host" / "scaffold.py"))
    with refused(InvalidInput, str(package / "_template"), hint="Reinstall"):
        template_folder()
    for place in (tmp_path / "site" / "plugins" / "_template", package / "_template"):
        place.mkdir(parents=True)
        (place / "pyproject.toml").touch()
        assert template_folder() == place


# Names


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("Acme", "'acme'"),
        ("my-lib", "'my_lib'"),
        ("my lib", "'my_lib'"),
        ("2fast", "'fast'"),
        ("a__b", "'a_b'"),
        ("trailing_", "'trailing'"),
        ("_leading", "'leading'"),
        ("../up", "'up'"),
        ("a/b", "'a_b'"),
        ("x" * 33, f"'{'x' * 32}'"),
        ("x" * 31 + "_yz", f"'{'x' * 31}'"),
        ("", "'acme'"),
        ("é", "'acme'"),
        ("zeta\n", "'zeta'"),
    ],
)
def test_malformed_names_are_refused_with_a_better_one(
    name: str, instead: str, tmp_path: Path, refused: Refused
) -> None:
    with refused(InvalidInput, repr(name), hint=instead):
        new_backend(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@given(name=st.text(max_size=40))
def test_a_refused_name_is_answered_with_an_acceptable_one(name: str) -> None:
    try:
        scaffold._check_name(name, ())
    except InvalidInput as error:
        if name not in scaffold.RESERVED:
            scaffold._check_name(error.hint.split("'")[1], ()) if "'auto'" not in error.hint else None


@pytest.mark.parametrize("name", ["auto", "core", "numpy"])
def test_names_in_use_are_refused(name: str, tmp_path: Path, refused: Refused) -> None:
    with refused(InvalidInput, repr(name), "taken", hint="helora backends"):
        new_backend(name, tmp_path, taken={"numpy"})


# What is left to fill in


def test_marks_are_found_in_order_with_their_places(tmp_path: Path) -> None:
    source = tmp_path / "src" / "helora_zeta"
    source.mkdir(parents=True)
    (source / "a.py").write_text("x = 1  # FILL IN 10: ten\n# FILL IN 2: two\nFILL IN: no number\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("\n<!-- FILL IN 3: three --> text\n", encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("# FILL IN 1: not a distribution's\n", encoding="utf-8")
    assert left_to_fill_in(tmp_path) == (
        FillIn(2, "src/helora_zeta/a.py", 2, "two"),
        FillIn(3, "README.md", 2, "three"),
        FillIn(10, "src/helora_zeta/a.py", 1, "ten"),
    )
    assert str(left_to_fill_in(tmp_path)[0]) == "FILL IN 2: two (src/helora_zeta/a.py:2)"


def test_every_call_of_the_library_has_a_mark(tmp_path: Path) -> None:
    folder = new_backend("zeta", tmp_path)
    marks = left_to_fill_in(folder)
    assert sorted({mark.number for mark in marks}) == list(range(1, 13))
    assert not {mark.path for mark in marks} & {"src/helora_zeta/backend.py"}
    path = "src/helora_zeta/library.py"
    marked = {mark.line for mark in marks if mark.path == path}
    (library,) = (
        node for node in ast.parse((folder / path).read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
        and node.name == "Library"
    )  # fmt: skip
    for method in library.body:
        if isinstance(method, ast.FunctionDef) and method.name != "_noisy":
            assert marked & set(range(method.lineno, (method.end_lineno or 0) + 1)), method.name


# What it does
