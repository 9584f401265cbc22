"""Outputs are opened before there is anything to write; what was there stays until all of it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.errors import InvalidInput
from helora_core.files.outputs import check_output, opened


def saving(content: bytes) -> Callable[[Any], object]:
    return lambda file: file.write(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_files_appear_when_the_block_ends(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    with opened(paths, force=False) as files:
        for path in paths:
            files.write(path, saving(path.name.encode()))
        assert not any(path.exists() for path in paths)
    assert [path.read_bytes() for path in paths] == [b"a", b"b"]
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("force", [False, True])
def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path, force: bool) -> None:
    if force:
        (tmp_path / "a").write_bytes(b"old")
    before = names(tmp_path)

    def fail_late() -> None:
        with opened([tmp_path / "a", tmp_path / "b"], force=force) as files:
            files.write(tmp_path / "a", saving(b"new"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_late()
    assert names(tmp_path) == before
    assert not force or (tmp_path / "a").read_bytes() == b"old"


def test_an_error_of_the_work_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="device"), opened([tmp_path / "a"], force=False):
        raise FileNotFoundError("device")


def test_a_file_that_is_there_is_replaced_only_if_asked(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with refused(InvalidInput, str(tmp_path / "a"), "already exists", hint="--force"):
        opened([tmp_path / "new", tmp_path / "a"], force=False).__enter__()
    assert names(tmp_path) == ["a"]
    with opened([tmp_path / "a"], force=True) as files:
        files.write(tmp_path / "a", saving(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("force", [False, True])
def test_only_plain_files_are_replaced(tmp_path: Path, refused: Any, force: bool) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("directory", "link", "pipe"):
        with refused(InvalidInput, name, "not a plain file"):
            check_output(tmp_path / name, force=force)
    with refused(InvalidInput, "/dev/null", "not a plain file"):
        check_output(Path("/dev/null"), force=force)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "file").write_bytes(b"")
    for parent in ("missing", "file"):
        with refused(InvalidInput, parent, "not a directory"):
            opened([tmp_path / parent / "a"], force=True).__enter__()


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, refused: Any, name: str) -> None:
    with refused(InvalidInput, "cannot be written"):
        opened([tmp_path / name], force=False).__enter__()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to the superuser")
def test_places_that_are_not_the_users_are_refused_at_once(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "a").chmod(0o444)
    with refused(InvalidInput, "may not be written"):
        check_output(tmp_path / "a", force=True)
    tmp_path.chmod(0o555)
    with refused(InvalidInput, "cannot be written"):
        opened([tmp_path / "b"], force=False).__enter__()
    tmp_path.chmod(0o755)


def test_two_results_never_go_to_one_file(tmp_path: Path, refused: Any) -> None:
    with refused(InvalidInput, "two results"):
        opened([tmp_path / "a", tmp_path / "a"], force=True).__enter__()
    assert names(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_came_meanwhile_is_kept_and_so_is_the_result(
    tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    with (
        refused(InvalidInput, "written there", ".part", hint="Move it"),
        opened([tmp_path / "a"], force=False) as files,
    ):
        files.write(tmp_path / "a", saving(b"hours of work"))
        (tmp_path / "a").write_bytes(b"somebody else's")
    assert (tmp_path / "a").read_bytes() == b"somebody else's"
    (kept,) = (path for path in tmp_path.iterdir() if path.name.endswith(".part"))
    assert kept.read_bytes() == b"hours of work"


def test_file_systems_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    with opened([tmp_path / "a"], force=False) as files:
        files.write(tmp_path / "a", saving(b"x"))
    assert names(tmp_path) == ["a"]


def test_a_full_disk_is_a_refusal(tmp_path: Path, refused: Any) -> None:
    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    with refused(InvalidInput, "No space left on device"), opened([tmp_path / "a"], force=False) as files:
        files.write(tmp_path / "a", full)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with opened([tmp_path / "a"], force=False) as files:
        files.write(tmp_path / "a", saving(b""))
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
