"""Rows: what a file of them survives, what it refuses, and which two of them may be divided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_harness.export.csv import to_csv
from helora_harness.metrics import Better, metric
from helora_harness.rows import (
    IncomparableRows,
    Row,
    RowsRefused,
    append_rows,
    comparable,
    latest,
    ratio,
    read_rows,
    repair,
)

MakeRow = Callable[..., Row]
OTHER = "d" * 40


def test_rows_come_back_as_they_were_written(tmp_path: Path, rows: list[Row]) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, rows[:5])
    append_rows(path, rows[5:])
    assert read_rows(path) == rows


def test_a_file_from_a_newer_version_is_refused_with_its_line(
    tmp_path: Path, make_row: MakeRow, refused: Callable[..., Any]
) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [make_row()])
    with open(path, "a") as file:
        file.write('{"schema":99,"unknown":true}\n')
    with refused(RowsRefused, "line 2", "schema 99", hint="Update"):
        read_rows(path)


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_line_that_is_cut_off_is_refused_with_its_number_and_mended_by_the_next_append(
    tmp_path: Path, make_row: MakeRow, refused: Callable[..., Any], cut: int
) -> None:
    path, first, second = tmp_path / "rows.jsonl", make_row(), make_row(tokens=16)
    append_rows(path, [first, second])
    path.write_bytes(path.read_bytes()[:-cut])
    with refused(RowsRefused, "line 2", "cut off", hint="repair"):
        read_rows(path)
    third = make_row(tokens=32)
    append_rows(path, [third])
    whole = cut == 1  # only the end of the line is missing
    assert read_rows(path) == ([first, second, third] if whole else [first, third])


def test_repair_cuts_what_an_interruption_left_and_nothing_else(tmp_path: Path, make_row: MakeRow) -> None:
    path = tmp_path / "rows.jsonl"
    assert repair(path) == ""
    append_rows(path, [make_row()])
    with open(path, "a") as file:
        file.write('{"schema":1,"ki')
    assert repair(path) == '{"schema":1,"ki'
    assert repair(path) == ""
    assert read_rows(path) == [make_row()]


def test_a_broken_line_in_the_middle_is_refused_with_its_number(
    tmp_path: Path, make_row: MakeRow, refused: Callable[..., Any]
) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [make_row()])
    with open(path, "a") as file:
        file.write('{"schema":1}\n')
    append_rows(path, [make_row()])
    with refused(RowsRefused, "line 2", "kind"):
        read_rows(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    with refused(RowsRefused, "none.jsonl"):
        read_rows(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shape": "8x8"}, "shape"),
        ({"tokens": 0}, "tokens"),
        ({"commit": "main"}, "commit"),
        ({"machine": "alice-laptop"}, "machine"),
        ({"metrics": {}}, "metrics"),
        ({"metrics": {"Ms": 1.0}}, "metrics"),
        ({"outcome": "failed", "reason": "it broke"}, "metrics"),
        ({"reason": "but it ran"}, "reason"),
    ],
)
def test_rows_that_break_the_schema_cannot_be_made_from_outside(
    make_row: MakeRow, change: dict[str, Any], word: str
) -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError, match=word):
        msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(make_row()) | _nested(make_row, change)), type=Row)


def _nested(make_row: MakeRow, change: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    (name, value), *more = change.items()
    plain = msgspec.to_builtins(make_row())
    for part in ("cell", "provenance"):
        if name in plain[part]:
            return {part: plain[part] | {name: value}}
    return {name: value, **dict(more)}


def test_a_host_name_is_no_hardware_class(make_row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "x86_64-2c")
    with pytest.raises(Exception, match="hardware class"):
        make_row()


def test_what_could_not_be_read_back_is_not_written(
    tmp_path: Path, make_row: MakeRow, refused: Callable[..., Any]
) -> None:
    path, good = tmp_path / "rows.jsonl", make_row()
    bad = Row(kind="e2e", cell=good.cell, metrics={"ms_per_token": float("nan")}, provenance=good.provenance)
    with refused(RowsRefused, "row 2 of 2"):
        append_rows(path, [good, bad])
    assert not path.exists()


def test_of_the_same_measurement_the_last_counts(make_row: MakeRow) -> None:
    first, again = make_row(metrics={"ms_per_token": 2.0}), make_row(metrics={"ms_per_token": 1.0})
    assert latest([first, make_row(tokens=1), again]) == [again, make_row(tokens=1)]


def test_counts_are_the_same_measurement_on_every_machine(make_row: MakeRow) -> None:
    assert len(latest([make_row(kind="counts"), make_row(kind="counts", machine="aarch64-4c")])) == 1
    assert len(latest([make_row(), make_row(machine="aarch64-4c")])) == 2


def test_operations_of_another_ring_are_another_measurement(make_row: MakeRow) -> None:
    of = {"kind": "micro", "packing": "", "shape": ""}
    assert len(latest([make_row(**of), make_row(**of, ring_degree=16384)])) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ring_degree": 16384}, "ring degree is 8192 in one row and 16384"),
        ({"modulus_bits": (60, 40, 60)}, "modulus bits is 60+40+40+60"),
        ({"security": "none"}, "security"),
        ({"library_version": "4.1.2"}, "library version is 4.1.1"),
        ({"threads": 2}, "threads"),
        ({"cpu_model": "Another"}, "cpu model"),
        ({"machine": "aarch64-4c"}, "machine"),
        ({"python": "3.13.1"}, "python"),
        ({"dirty": True}, "does not have"),
        ({"kind": "micro"}, "kind"),
        ({"backend": "openfhe"}, "backend is tenseal"),
        ({"tokens": 16}, "tokens"),
        ({"outcome": "failed", "reason": "out of memory", "metrics": {}}, "out of memory"),
    ],
)
def test_rows_of_other_provenance_are_not_divided(make_row: MakeRow, change: dict[str, Any], words: str) -> None:
    a, b = make_row(), make_row(commit=OTHER, **change)
    reason = comparable(a, b)
    assert reason is not None
    assert words in reason
    with pytest.raises(IncomparableRows, match="have no ratio"):
        ratio(a, b, "ms_per_token")


def test_commits_are_compared_by_default_and_backends_and_packings_on_request(make_row: MakeRow) -> None:
    a = make_row()
    slower = make_row(commit=OTHER, plan_digest="other", metrics={"ms_per_token": 200.0})
    assert comparable(a, slower) is None
    assert ratio(slower, a, "ms_per_token") == 2.0
    assert comparable(a, slower, across=["backend"]) == "commit is c0ffee00 in one row and dddddddd in the other"
    other = make_row(backend="openfhe", library="OpenFHE", library_version="1.2.3")
    assert comparable(a, other) is not None
    assert comparable(a, other, across=["backend"]) is None
    assert comparable(a, make_row(packing="zero_moai", plan_digest="x"), across=["packing"]) is None


def test_counts_are_comparable_over_machines(make_row: MakeRow) -> None:
    assert comparable(make_row(kind="counts"), make_row(kind="counts", machine="aarch64-4c", threads=4)) is None


def test_a_ratio_needs_the_metric_in_both_rows(make_row: MakeRow) -> None:
    with pytest.raises(IncomparableRows, match="missing"):
        ratio(make_row(), make_row(), "lost_bits")


@pytest.mark.parametrize(
    ("name", "label", "unit", "better"),
    [
        ("ms_per_token", "time", "ms/token", Better.LOWER),
        ("precision_bits", "precision", "bits", Better.HIGHER),
        ("rotate_ms@2", "rotate, level 2", "ms", Better.LOWER),
        ("wall_ms", "wall", "ms", Better.LOWER),
        ("accuracy", "accuracy", "", Better.UNKNOWN),
    ],
)
def test_metrics_are_known_by_name_or_ending(name: str, label: str, unit: str, better: Better) -> None:
    found = metric(name)
    assert (found.label, found.unit, found.better) == (label, unit, better)


def test_csv_has_a_column_per_metric_and_says_what_failed(make_row: MakeRow) -> None:
    failed = make_row(outcome="failed", reason='no "key"', metrics={}, tokens=1)
    lines = to_csv([make_row(metrics={"ms_per_token": 1.5, "lost_bits": 37}), failed]).splitlines()
    assert lines[0].startswith(
        "kind,backend,packing,shape,tokens,sanitized,outcome,reason,lost_bits,ms_per_token,commit,"
    )
    assert lines[1].startswith("e2e,tenseal,rank_bsgs,1536:1536:16,8,false,ok,,37,1.5,c0ffee")
    assert ",false,9f2a,8192,60 40 40 60,40,2," in lines[1]
    assert lines[2].startswith('e2e,tenseal,rank_bsgs,1536:1536:16,1,false,failed,"no ""key""",,,c0ffee')
