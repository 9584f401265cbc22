"""What benchmarks share: origin of rows, what a file has already, absent backends, interruptions."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click
import msgspec
import pytest

from helora_core.errors import BackendUnavailable
from helora_harness.bench.record import Origin, Record, exercised, key_here, origin, provenance, resumable, usable
from helora_harness.checkouts import Commit, git
from helora_harness.rows import Cell, Row, RowsRefused, key

CLEAN = Origin(Commit("a" * 40, datetime(2026, 1, 1, tzinfo=timezone.utc)), dirty=False)
CELL = Cell(backend="numpy", packing="rank_bsgs", shape="64:64:4", tokens=2)
PLAN = {
    "digest": "d",
    "ring_degree": 8192,
    "modulus_bits": [60, 60],
    "scale_bits": [30.0],
    "levels": 0,
    "security": "x",
}


def row(of: Origin = CLEAN, cell: Cell = CELL) -> Row:
    return Row(kind="e2e", cell=cell, metrics={"steps": 1}, provenance=provenance(of, "numpy", PLAN))


def test_a_row_measured_here_has_the_key_that_is_looked_for() -> None:
    assert key(row()) == key_here("e2e", CELL, CLEAN)


def test_good_rows_of_the_same_clean_code_are_known(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    Record(file).add(row())
    assert Record(file).known("e2e", CELL, CLEAN) == [row()]
    other = msgspec.structs.replace(CLEAN, commit=Commit("b" * 40, CLEAN.commit.date))
    assert not Record(file).known("e2e", CELL, other)
    assert not Record(file).known("micro", CELL, CLEAN)
    assert not Record(file).known("e2e", msgspec.structs.replace(CELL, tokens=3), CLEAN)
    assert not Record(file, again=True).known("e2e", CELL, CLEAN)


def test_rows_of_a_tree_with_changes_and_failures_are_not_known(tmp_path: Path) -> None:
    dirty = msgspec.structs.replace(CLEAN, dirty=True)
    file = Record(tmp_path / "rows.jsonl")
    file.add(row(dirty))
    file.add(msgspec.structs.replace(row(), metrics={}, outcome="failed", reason="it broke"))
    again = Record(tmp_path / "rows.jsonl")
    assert not again.known("e2e", CELL, dirty)
    assert not again.known("e2e", CELL, CLEAN)


def test_a_row_that_was_cut_off_is_cut_away(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    Record(file).add(row())
    with file.open("ab") as cut:
        cut.write(b'{"kind":"e2e","cel')
    assert Record(file).known("e2e", CELL, CLEAN) == [row()]


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(RowsRefused, match="cannot be written"):
        Record(tmp_path / "nowhere" / "rows.jsonl")


def test_only_changes_of_code_make_a_tree_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "helora_core").mkdir()
    (tmp_path / "helora_core" / "a.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "first")
    (tmp_path / "helora-bench.jsonl").write_text("")
    (tmp_path / "notes.md").write_text("")
    assert not origin(tmp_path).dirty
    (tmp_path / "helora_core" / "b.py").write_text("")
    assert origin(tmp_path).dirty


def test_backends_that_cannot_be_used_are_named_with_their_reason() -> None:
    present, missing = usable(["numpy", "nowhere", "numpy"])
    assert present == ["numpy"]
    assert list(exercised(present, missing)) == [
        "1 of 2 backends exercised:",
        "  nowhere: no installed plugin offers it",
    ]
    with pytest.raises(BackendUnavailable, match="nowhere: no installed plugin offers it"):
        usable(["nowhere"])


def test_an_interruption_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.Abort), resumable(Path("rows.jsonl"), CLEAN):
        raise KeyboardInterrupt
    assert "finished cells are in rows.jsonl; the same command does the others" in capsys.readouterr().err
