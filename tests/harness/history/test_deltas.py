"""Deltas say what rows say, in a tenth of the room or less, and nothing of them is lost unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helora_harness.deltas import append_deltas, read_deltas
from helora_harness.places import HISTORY
from helora_harness.rows import Row, RowsRefused, append_rows

MakeRow = Callable[..., Row]
COUNTS = HISTORY / "counts.deltas"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.deltas"


def test_the_history_begins_with_the_rows_that_were_a_line_each() -> None:
    """The 1 115 rows of 897 kB that stood in counts.jsonl before, to the byte of their JSON."""
    rows = read_deltas(COUNTS)[:1115]
    digest = hashlib.sha256(msgspec.json.encode(rows, order="deterministic")).hexdigest()
    assert digest == "cd35c5922b090e61290519c1f28ce0173c7ab88a39a1c2e9e61d824dc2929d49"


def test_the_stored_history_takes_a_fortieth_of_its_rows(tmp_path: Path) -> None:
    append_rows(tmp_path / "rows.jsonl", read_deltas(COUNTS))
    assert COUNTS.stat().st_size < (tmp_path / "rows.jsonl").stat().st_size / 40


def test_rows_come_back_as_they_were_written(path: Path, rows: list[Row]) -> None:
    by_kind = [row for row in rows if row.kind == "counts"]
    append_deltas(path, by_kind[:7])
    append_deltas(path, by_kind[7:])
    assert read_deltas(path) == by_kind


commits = st.lists(
    st.dictionaries(
        st.sampled_from(["rank_bsgs", "cheetah", "cpmm"]),
        st.dictionaries(st.sampled_from(["adds", "steps"]), st.sampled_from([0, 1, 1.0, 2.5])),
        min_size=1,
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(commits=commits, cut=st.integers(0, 20))
def test_cells_and_metrics_may_come_go_and_return(
    commits: list[dict[str, dict[str, Any]]], cut: int, make_row: MakeRow, tmp_path: Path
) -> None:
    """A cell without metrics has failed."""
    path, start = tmp_path / "rows.deltas", datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    path.unlink(missing_ok=True)
    rows = [
        make_row(
            packing=packing,
            metrics=metrics,
            commit=f"{number:040x}",
            commit_date=start + timedelta(hours=number),
            **({} if metrics else {"outcome": "failed", "reason": "it was refused"}),
        )
        for number, cells in enumerate(commits)
        for packing, metrics in cells.items()
    ]
    whole = [row for row in rows if int(row.provenance.commit, 16) < cut]
    append_deltas(path, whole)
    append_deltas(path, rows[len(whole) :])
    found = read_deltas(path)
    assert found == rows
    assert [[type(value) for value in row.metrics.values()] for row in found] == [
        [type(row.metrics[name]) for name in again.metrics] for row, again in zip(rows, found, strict=True)
    ]


def with_changes(make_row: MakeRow, path: Path) -> list[bytes]:
    """A file of three commits, each with other counts; its lines."""
    for number in range(3):
        append_deltas(path, [make_row(kind="counts", metrics={"steps": number}, commit=f"{number}" * 40)])
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_line_is_seen(path: Path, make_row: MakeRow, refused: Callable[..., Any], lost: int) -> None:
    lines = with_changes(make_row, path)
    path.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    with refused(RowsRefused, f"line {lost + 1} cannot be read", hint="git"):
        read_deltas(path)


@pytest.mark.parametrize(("before", "after"), [(b'steps":1', b'steps":2'), (b"1111", b"1112"), (b'",0,', b'",7,')])
def test_a_changed_line_is_seen(
    path: Path, make_row: MakeRow, refused: Callable[..., Any], before: bytes, after: bytes
) -> None:
    lines = with_changes(make_row, path)
    assert before in lines[2]
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(before, after, 1), lines[3]]))
    with refused(RowsRefused, "line 3 cannot be read", hint="git"):
        read_deltas(path)


def test_a_file_of_another_version_is_refused(path: Path, make_row: MakeRow, refused: Callable[..., Any]) -> None:
    lines = with_changes(make_row, path)
    path.write_bytes(b"".join([lines[0].replace(b"1", b"2"), *lines[1:]]))
    with refused(RowsRefused, "line 1 is not", hint="Update"):
        read_deltas(path)


def test_a_line_that_is_cut_off_is_refused_and_mended_by_the_next_append(
    path: Path, make_row: MakeRow, refused: Callable[..., Any]
) -> None:
    whole = b"".join(with_changes(make_row, path))
    before = read_deltas(path)
    path.write_bytes(whole[:-5])
    with refused(RowsRefused, "cut off", hint="grow"):
        read_deltas(path)
    again = make_row(kind="counts", metrics={"steps": 2}, commit="2" * 40)
    append_deltas(path, [again])
    assert read_deltas(path) == before
    assert path.read_bytes() == whole
