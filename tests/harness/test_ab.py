"""Paired comparison: on workers whose time is made up, and on real processes without a look at the clock."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from helora_harness.ab import BAND, Comparison, Interval, Plan, compare, differences, interval, judge, t_quantile
from helora_harness.checkouts import Worker, code_here
from helora_harness.cli_ab import ab
from helora_harness.rows import Cell

REPO = Path(__file__).parents[2]
CELL = Cell(backend="numpy", packing="rank_bsgs", shape="64:64:4", tokens=1)
COUNTS = {"rotations": 19, "keyswitches": 19}
FACTS = {"digest": "a", "ring_degree": 8192, "modulus_bits": [60, 40, 60]}


class Machine:
    """Processes whose time is made up: a drift that all share, a bias per process, and noise per timing."""

    def __init__(
        self, seed: int, head: float = 1.0, counts: dict[str, int] | None = None, restless: float = 0.0
    ) -> None:
        self._random, self._head, self._counts, self._restless = Random(seed), head, counts or COUNTS, restless
        self._speed = 1.0
        self._last: Simulated | None = None
        self.alive = 0
        self.spawned = 0

    def spawn(self, side: str) -> Simulated:
        self.alive += 1
        self.spawned += 1
        bias = self._random.gauss(1.0, 0.004 + (self._restless if side == "again" else 0.0))
        return Simulated(self, side, bias * (self._head if side == "head" else 1.0))

    def timing(self, factor: float) -> int:
        self._speed *= 1.002  # over a comparison, the machine slows down to a half
        return int(10_000_000 * self._speed * factor * self._random.gauss(1.0, 0.02))

    def first_of_turn(self, process: Simulated) -> int:
        """What the first run costs more if another process ran before it, and filled the caches."""
        before, self._last = self._last, process
        return 0 if before is process else 5_000_000

    def answer(self, side: str) -> dict[str, Any]:
        return {"counts": self._counts if side == "head" else COUNTS, "plan": FACTS}


class Simulated:
    def __init__(self, machine: Machine, side: str, factor: float) -> None:
        self._machine, self._side, self._factor = machine, side, factor

    def ask(self, **request: Any) -> dict[str, Any]:
        if request["do"] == "time":
            first = self._machine.first_of_turn(self) if request["warm"] == 0 else 0
            return {"ns": first + request["repeat"] * self._machine.timing(self._factor)}
        return self._machine.answer(self._side) if request["do"] == "run" else {}

    def close(self) -> None:
        self._machine.alive -= 1


def compared(machine: Machine, **plan: Any) -> Comparison:
    (found,) = compare(machine.spawn, [CELL], Plan(**plan))
    assert machine.alive == 0
    return found


@pytest.mark.parametrize("seed", range(30))
def test_identical_code_is_never_called_faster_or_slower(seed: int) -> None:
    assert compared(Machine(seed)).verdict in ("same", "undecided")


def test_identical_code_is_mostly_called_the_same() -> None:
    assert sum(compared(Machine(seed)).verdict == "same" for seed in range(30)) >= 27


@pytest.mark.parametrize("seed", range(15))
def test_a_fifth_more_time_is_slower_and_a_fifth_less_is_faster(seed: int) -> None:
    slower, faster = compared(Machine(seed, head=1.2)), compared(Machine(seed, head=0.8))
    assert slower.verdict == "slower"
    assert slower.time is not None
    assert slower.time.low < 1.2 < slower.time.high or abs(slower.time.ratio - 1.2) < 0.02
    assert faster.verdict == "faster"


def test_a_change_at_the_edge_of_the_band_is_undecided() -> None:
    assert compared(Machine(3, head=BAND[1])).verdict == "undecided"


def test_a_machine_that_disagrees_with_itself_decides_nothing() -> None:
    found = compared(Machine(1, head=1.2, restless=0.2))
    assert found.verdict == "undecided"
    assert "against itself" in found.causes[0]


def test_a_slowdown_names_the_operations_that_came() -> None:
    found = compared(Machine(5, head=1.2, counts={"rotations": 21, "keyswitches": 21, "sanitizes": 1}))
    assert found.causes == ("rotations 19 → 21", "key switches 19 → 21", "sanitizes 0 → 1")


def test_parameters_that_changed_are_named_too() -> None:
    changed = {"counts": COUNTS, "plan": {**FACTS, "digest": "b", "modulus_bits": [60, 38, 60]}}
    assert differences({"counts": COUNTS, "plan": FACTS}, changed) == ("primes 60+40+60 → 60+38+60",)


def test_eight_spawns_of_three_processes_are_the_least() -> None:
    machine = Machine(0)
    compared(machine)
    assert machine.spawned == 3 * 8
    with pytest.raises(ValueError, match="fewer than 8"):
        Plan(spawns=7)


@pytest.mark.parametrize(("p", "freedom", "table"), [(0.975, 7, 2.3646), (0.975, 30, 2.0423), (0.995, 9, 3.2498)])
def test_quantiles_are_those_of_the_tables(p: float, freedom: int, table: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(table, abs=5e-4)


def test_more_cells_widen_the_interval() -> None:
    ratios = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99]
    narrow, wide = interval(ratios, 0.95), interval(ratios, 1 - 0.05 / 10)
    assert wide.low < narrow.low < narrow.ratio < narrow.high < wide.high


def test_an_interval_across_the_edge_has_no_verdict() -> None:
    assert judge(Interval(0.96, 1.0, 1.02), Interval(0.99, 1.0, 1.01))[0] == "undecided"


def test_what_one_side_lacks_is_not_applicable() -> None:
    class Lacking(Simulated):
        def ask(self, **request: Any) -> dict[str, Any]:
            return {"error": "no packing of that name", "absent": True}

    machine = Machine(0)
    machine.alive += 3 * 8
    (found,) = compare(lambda side: Lacking(machine, side, 1.0), [CELL], Plan())
    assert (found.verdict, found.causes[0]) == ("n/a", "base: no packing of that name")


def test_a_worker_runs_a_cell_and_answers_for_what_it_cannot() -> None:
    with code_here(REPO) as code, Worker(code) as worker:
        cell = ["numpy", "rank_bsgs", "64:64:4", 2]
        run = worker.ask(do="run", cell=cell, seed=1)
        assert run["precision_bits"] > 8
        assert run["provides_security"] is False
        assert run["counts"]["rotations"] > 0
        assert worker.ask(do="time", cell=cell, repeat=2, warm=0, seed=1)["ns"] > 0
        assert worker.ask(do="run", cell=["numpy", "no_such", "64:64:4", 1])["absent"]
        assert "error" in worker.ask(do="dance")


@pytest.mark.thorough
def test_a_real_comparison_of_the_same_code_runs_to_its_end() -> None:
    done = CliRunner().invoke(
        ab,
        ["HEAD", "HEAD", "--cells", "numpy rank_bsgs 64:64:4 1", "--blocks", "1", "--json", "--repo", str(REPO)],
        catch_exceptions=False,
    )
    (found,) = json.loads(done.stdout)["cells"]
    assert done.exit_code == 0
    assert found["spawns"] == 8
    assert found["floor"]["low"] <= found["floor"]["high"]
    assert found["causes"][-1] == "counts and parameters are the same"


def test_what_is_to_be_compared_must_be_named() -> None:
    assert CliRunner().invoke(ab, ["HEAD"]).exit_code == 2
    assert CliRunner().invoke(ab, ["HEAD", "HEAD", "--cells", "nonsense"]).exit_code == 2


def test_a_file_that_nothing_can_be_added_to_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from helora_core.cli.main import main

    line = ["bench", "ab", "--backends", "numpy", "numpy", "--out", str(tmp_path / "missing" / "ab.jsonl")]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 1
    assert "cannot be written" in done.output
