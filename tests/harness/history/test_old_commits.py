"""Today's harness still measures yesterday's code: functions move, and ``shim.py`` knows from where to where."""

from __future__ import annotations

import pytest

from helora_harness.checkouts import CommitUnusable, Worker, code_at, resolve
from helora_harness.deltas import read_deltas
from helora_harness.grow_history import counted
from helora_harness.places import HISTORY, REPO
from helora_harness.rows import Row


@pytest.mark.parametrize("at", [0, 144], ids=["of the first day", "a later one"])
def test_rows_of_an_old_commit_are_measured_again_alike(at: int) -> None:
    history = read_deltas(HISTORY / "counts.deltas")
    commit = list(dict.fromkeys(row.provenance.commit for row in history))[at]
    try:
        of = resolve(REPO, commit)
    except CommitUnusable:
        pytest.skip("this clone does not have the whole history")
    with code_at(REPO, of.hash) as code, Worker(code) as worker:
        found = list(counted(of, worker))
    stored = [row for row in history if row.provenance.commit == commit]
    rows = [row for row in found if isinstance(row, Row)]  # the others are of packings that came later
    assert [(row.cell, row.metrics, row.provenance.plan_digest) for row in rows] == [
        (row.cell, row.metrics, row.provenance.plan_digest) for row in stored
    ]
