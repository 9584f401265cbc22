"""The counts gate tells a dearer plan from a cheaper, a new and a lost one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HARNESS = Path(__file__).parents[2] / "harness"


@pytest.fixture(scope="module")
def counts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("counts", HARNESS / "counts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCKED = {"p 8:8:2": {"rotations": 4, "ring_degree": 8192, "tokens_per_run": 2}}


def test_equal_counts_are_ok(counts: ModuleType) -> None:
    assert counts.judge(LOCKED, LOCKED) == ("OK", [])


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"rotations": 5}, "REGRESS"),
        ({"rotations": 3}, "STALE"),
        ({"tokens_per_run": 4}, "REGRESS"),
        ({"ring_degree": 4096}, "REGRESS"),
        ({"rotations": 3, "ring_degree": 16384}, "REGRESS"),
    ],
)
def test_any_other_count_has_its_state(counts: ModuleType, change: dict[str, int], state: str) -> None:
    found, lines = counts.judge(LOCKED, {"p 8:8:2": LOCKED["p 8:8:2"] | change})
    assert found == state
    assert all(str(value) in lines[0] for value in change.values())


def test_a_new_cell_is_stale_and_a_missing_one_lost(counts: ModuleType) -> None:
    new = {**LOCKED, "q 8:8:2": {"rotations": 1}}
    assert counts.judge(LOCKED, new)[0] == "STALE"
    assert counts.judge(new, LOCKED)[0] == "LOST"
    assert counts.judge(LOCKED, {"p 8:8:2": "refused because"}) == ("LOST", ["LOST     p 8:8:2: refused because"])


def test_the_committed_lock_is_what_plans_cost_now(counts: ModuleType) -> None:
    """If this fails, a change altered what plans cost: see `python harness/counts.py`."""
    locked = counts.msgspec.json.decode(counts.LOCK.read_bytes(), type=dict[str, counts.Counts])
    assert counts.judge(locked, counts.measured()) == ("OK", [])
