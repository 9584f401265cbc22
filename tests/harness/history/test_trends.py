"""The first page's claims: what got worse, for which cell on which machine, why, and whether it was meant."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_harness.checkouts import git
from helora_harness.places import HISTORY, REPO
from helora_harness.rows import Row
from helora_harness.trends.annotations import FILE, Annotation, AnnotationsRefused, read_annotations
from helora_harness.trends.page import to_page
from helora_harness.trends.regressions import TIME, regressions
from helora_harness.trends.table import lines_of
from tests.harness.history.conftest import DAY_ONE

MakeRow = Callable[..., Row]


def _series(make_row: MakeRow, *changes: dict[str, Any]) -> list[Row]:
    """Rows of one cell, a commit a day."""
    return [
        make_row(commit=f"{day:040x}", commit_date=DAY_ONE + timedelta(days=day), **change)
        for day, change in enumerate(changes, start=1)
    ]


def _times(*values: float) -> list[dict[str, Any]]:
    return [{"metrics": {"ms_per_token": value}} for value in values]


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=6))
def test_a_time_is_worse_exactly_if_it_grew_by_more_than_the_tolerance(make_row: MakeRow, values: list[float]) -> None:
    found = regressions(_series(make_row, *_times(*values)))
    grew = [at for at in range(1, len(values)) if values[at] > TIME * values[at - 1]]
    assert sorted(int(each.after.provenance.commit, 16) - 1 for each in found) == grew
    assert all(each.mended == (values[-1] <= TIME * each.before.metrics["ms_per_token"]) for each in found)


@pytest.mark.parametrize(
    "other",
    [{"machine": "aarch64-4c"}, {"cpu_model": "other"}, {"threads": 2}, {"python": "3.12.1"}, {"shape": "8:8:2"},
     {"tokens": 1}, {"packing": "cheetah"}, {"backend": "rns"}, {"sanitized": True}],
    ids=str,
)  # fmt: skip
def test_only_one_cell_on_one_machine_is_compared(make_row: MakeRow, other: dict[str, Any]) -> None:
    slower = {**_times(900.0)[0], **other}
    assert len(regressions(_series(make_row, *_times(100.0, 900.0)))) == 1
    assert regressions(_series(make_row, *_times(100.0), slower)) == []


def test_a_cell_that_comes_goes_or_fails_makes_nothing_worse(make_row: MakeRow) -> None:
    steady = _series(make_row, *_times(100.0, 100.0, 100.0))
    newcomer = make_row(shape="9:9:3", commit=f"{2:040x}", metrics={"ms_per_token": 5000.0})
    failed = _series(make_row, {}, {"metrics": {}, "outcome": "failed", "reason": "broke"}, {})[1]
    assert regressions([steady[0], failed, newcomer, steady[2]]) == []


def test_the_cause_is_what_changed_between_the_two(make_row: MakeRow) -> None:
    one = {"metrics": {"ms_per_token": 10.0, "keyswitches_per_token": 14}}
    more = {"metrics": {"ms_per_token": 20.0, "keyswitches_per_token": 19}, "ring_degree": 16384}
    by_metric = {each.metric: each for each in regressions(_series(make_row, one, more))}
    assert set(by_metric) == {"ms_per_token", "keyswitches_per_token"}
    assert by_metric["ms_per_token"].causes == ("key switches 14 → 19", "N 8192 → 16384")
    (same,) = regressions(_series(make_row, *_times(10.0, 20.0)))
    assert "same plan, same library" in same.causes[0]
    (other,) = regressions(_series(make_row, _times(10.0)[0], {**_times(20.0)[0], "library_version": "5.0"}))
    assert other.causes == ("SEAL 4.1.1 → SEAL 5.0",)


def test_an_annotation_explains_its_commit_metric_and_cells_only(make_row: MakeRow) -> None:
    rows = _series(make_row, *_times(10.0, 20.0, 40.0))
    meant = Annotation(commit=f"{2:040x}"[:40], text="it was", metrics=("ms_*",), cells=("tenseal rank_bsgs *",))
    assert [each.meant for each in regressions(rows, [meant])] == ["", "it was"]
    for wrong in ({"metrics": ("bytes_*",)}, {"cells": ("rns *",)}):
        other = Annotation(commit=f"{2:040x}", text="it was", **wrong)
        assert [each.meant for each in regressions(rows, [other])] == ["", ""]


def test_annotations_name_commits_of_this_history(tmp_path: Path, refused: Callable[..., Any]) -> None:
    commits = ["a" * 40, "ab" * 20]
    file = tmp_path / FILE
    assert read_annotations(file, commits) == ()
    file.write_text(f'[[change]]\ncommit = "{"ab" * 6}"\ntext = "private weights"\n')
    assert read_annotations(file, commits)[0].text == "private weights"
    for text, words in (
        ('[[change]]\ncommit = "cccccccccccc"\ntext = "x"\n', "0 commits"),
        ('[[change]]\ncommit = "a"\ntext = "x"\n', "not a file of annotations"),
        (f'[[change]]\ncommit = "{"a" * 12}"\n', "not a file of annotations"),
        ("[[change]\n", "not a file of annotations"),
    ):
        file.write_text(text)
        with refused(AnnotationsRefused, words):
            read_annotations(file, commits)


def test_the_committed_annotations_are_of_this_repository() -> None:
    if git(REPO, "rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("this clone does not have the whole history")
    commits = git(REPO, "rev-list", "--first-parent", "HEAD").split()
    assert read_annotations(HISTORY / FILE, commits)


def test_the_page_has_every_cell_and_needs_nothing_else(rows: list[Row]) -> None:
    page = to_page(rows, {}, [], ["3 rows of another branch"])
    assert len(re.findall(r'<tr id="line-', page)) == len(lines_of(rows))
    assert "3 rows of another branch" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    text = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert text is not None
    data = json.loads(text[1])
    assert len(data["lines"]) == len(lines_of(rows))
    assert len(data["commits"]) == 5


def test_words_of_others_cannot_end_the_page_or_run(make_row: MakeRow) -> None:
    bad = '</script><script>alert("x")</script>'
    row = make_row(outcome="failed", reason=bad, metrics={})
    page = to_page([make_row(tokens=1), row], {make_row().provenance.commit: bad}, [], [bad])
    assert "<script>alert" not in page


@pytest.mark.parametrize("unexplained", [True, False])
def test_the_verdict_counts_what_is_worse_and_was_not_meant(make_row: MakeRow, unexplained: bool) -> None:
    rows = _series(make_row, *_times(10.0, 20.0))
    meant = [] if unexplained else [Annotation(commit=f"{2:040x}", text="meant")]
    page = to_page(rows, {}, meant, [])
    assert ("1 figure is worse than it was" in page) == unexplained
    assert ("Nothing is worse than it was" in page) != unexplained
