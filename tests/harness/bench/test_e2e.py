"""Encrypted decoding: real runs in real processes, results that are wrong, interruptions, and what is printed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from helora_core.cli.main import main
from helora_core.host.manager import get_manager
from helora_harness import ab_worker, checkouts
from helora_harness.bench import record
from helora_harness.bench.counts import plan_of
from helora_harness.bench.e2e import Measured, Steps, best, bound_by, measure
from helora_harness.bench.grid import with_packing
from helora_harness.bench.record import Origin, Record
from helora_harness.checkouts import Asked, Code, Commit, Worker, code_here
from helora_harness.metrics import Better, metric
from helora_harness.places import REPO
from helora_harness.rows import Cell, Row, read_rows

CLEAN = Origin(Commit("a" * 40, datetime(2026, 1, 1, tzinfo=timezone.utc)), dirty=False)
FEW = Steps(2, 60.0)


def cell(tokens: int = 1, packing: str = "rank_bsgs", shape: str = "64:64:4") -> Cell:
    return Cell(backend="numpy", packing=packing, shape=shape, tokens=tokens)


@pytest.fixture(scope="module")
def code() -> Iterator[Code]:
    with code_here(REPO) as found:
        yield found


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "origin", lambda: CLEAN)


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", "e2e", *map(str, arguments)])


class InProcess:
    """Answers as a worker's process does, without being one; ``change`` alters answers."""

    def __init__(
        self, change: Callable[[dict[str, Any], dict[str, Any]], object] = lambda request, answer: None
    ) -> None:
        self._worker, self._change = ab_worker.Worker(), change
        self.closed = False

    def ask(self, **request: Any) -> dict[str, Any]:
        answer = self._worker.answer(request)
        self._change(request, answer)
        return answer

    def close(self) -> None:
        self.closed = True


def measured(path: Path, worker: Asked, *cells: Cell, steps: Steps = FEW) -> list[Measured]:
    return list(measure(cells or (cell(),), Record(path), CLEAN, lambda: worker, steps))


def only_row(found: list[Measured]) -> Row:
    (one,) = found
    assert one.row is not None
    return one.row


class TestCommand:
    def test_a_grid_runs_and_every_cell_has_a_row_whose_counts_are_the_plans(self, tmp_path: Path) -> None:
        out = tmp_path / "rows.jsonl"
        done = bench("--backend", "numpy", "--hidden-sizes", "64", "--ranks", "4", "--batch-sizes", "1,4",
                     "--num-tokens", "3", "--out", out, "--json")  # fmt: skip
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        rows = read_rows(out)
        assert [row.cell for row in rows] == [cell(1), cell(4)]
        assert document["rows"] == json.loads(msgspec.json.encode(rows))
        assert document["schema"] == 1
        assert document["absent"] == {}
        assert document["refused"] == document["resumed"] == []
        assert set(document["best"]) == {"tokens_per_second", "rotations_per_token", "bytes_per_token"}
        assert document["best"]["rotations_per_token"]["tokens"] == 4
        assert [each["cell"]["tokens"] for each in document["bottlenecks"]] == [1, 4]
        for row in rows:
            plan, of = plan_of(row.cell), row.metrics
            assert of["rotations_per_token"] == plan.counts.rotations * plan.runs(row.cell.tokens) / row.cell.tokens
            assert of["steps"] == 3
            assert of["precision_bits"] > 12
            assert 0 < of["he_share"] < 1
            assert of["peak_rss_bytes"] > 2**20
            assert of["tokens_per_second"] == pytest.approx(
                row.cell.tokens * of["tokens_per_second_per_sequence"], rel=1e-4
            )
            assert of["step_ms_p50"] <= of["step_ms_p90"] <= of["step_ms_p99"] == of["step_ms_max"]
            assert row.provenance.plan_digest == plan.digest
            assert row.provenance.security == "none"
            assert {name for name in of if metric(name).better is Better.UNKNOWN} == {"steps", "he_share"}
        assert "nothing was encrypted" in done.stderr

    def test_a_library_runs_too(self, tmp_path: Path) -> None:
        if get_manager().backends()["tenseal"].availability is not None:
            pytest.skip("TenSEAL is not installed")
        done = bench("--hidden-sizes", "64", "--ranks", "4", "--batch-sizes", "2", "--num-tokens", "2",
                     "--out", tmp_path / "rows.jsonl")  # fmt: skip
        assert done.exit_code == 0, done.output
        assert "tenseal  rank_bsgs  64:64:4" in done.stdout
        assert "highest throughput" in done.stdout
        assert "1 of 1 backends exercised" in done.output

    def test_a_backend_that_is_absent_is_said(self, tmp_path: Path) -> None:
        arguments = ("--backend", "nowhere,numpy", "--hidden-sizes", "64", "--ranks", "4", "--batch-sizes", "1",
                     "--num-tokens", "1", "--out", tmp_path / "rows.jsonl")  # fmt: skip
        done = bench(*arguments)
        assert done.exit_code == 0
        assert "1 of 2 backends exercised:\n  nowhere: no installed plugin offers it" in done.stderr
        assert json.loads(bench(*arguments, "--json").stdout)["absent"] == {"nowhere": "no installed plugin offers it"}

    def test_no_backend_at_all_is_refused(self, tmp_path: Path) -> None:
        done = bench("--backend", "nowhere", "--out", tmp_path / "rows.jsonl", "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["error"]["code"] == "backend-unavailable"

    def test_a_wrong_result_makes_the_exit_status_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkouts, "Worker", lambda code: InProcess(imprecise(3.0)))
        done = bench("--backend", "numpy", "--hidden-sizes", "64", "--ranks", "4", "--batch-sizes", "1",
                     "--out", tmp_path / "rows.jsonl")  # fmt: skip
        assert done.exit_code == 1
        assert "FAILED numpy rank_bsgs 64:64:4 1 token: Δ has 3.0 bits" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--ranks", "4,x"], "'x' is not a valid whole number"),
            (["--ranks", "0"], "0 is not in the range"),
            (["--ranks", ","], "there is no value in it"),
            (["--preset", "ci", "--ranks", "4"], "--preset and --ranks exclude each other"),
            (["--preset", "llm", "--backend", "numpy"], "no cell on numpy"),
            (["--preset", "nope"], "no preset 'nope'"),
            (["--backend", "numpy", "--packing", "nope"], "no loaded plugin offers the packing 'nope'"),
        ],
    )
    def test_what_cannot_be_asked_is_refused(self, arguments: list[str], words: str, tmp_path: Path) -> None:
        done = bench(*arguments, "--out", tmp_path / "rows.jsonl")
        assert done.exit_code in (1, 2)
        assert words in done.output

    def test_the_same_command_again_measures_nothing_and_says_so(self, tmp_path: Path, clean: None) -> None:
        out = tmp_path / "rows.jsonl"
        arguments = ("--backend", "numpy", "--hidden-sizes", "64", "--ranks", "4", "--batch-sizes", "1",
                     "--num-tokens", "1", "--out", out)  # fmt: skip
        assert bench(*arguments).exit_code == 0
        again = bench(*arguments)
        assert "1 of 1 cells were in" in again.stdout
        assert len(read_rows(out)) == 1
        assert json.loads(bench(*arguments, "--json").stdout)["resumed"] == [json.loads(msgspec.json.encode(cell()))]
        assert bench(*arguments, "--again").exit_code == 0
        assert len(read_rows(out)) == 2


def test_a_batch_is_laid_out_to_run_together(tmp_path: Path) -> None:
    together = cell(8, shape="1024:1024:4")
    metrics = only_row(measured(tmp_path / "rows.jsonl", InProcess(), together)).metrics
    plan, few = plan_of(together), plan_of(msgspec.structs.replace(together, tokens=1))
    assert (few.tokens_per_run, plan.tokens_per_run) == (4, 8)
    assert metrics["rotations_per_token"] == pytest.approx(plan.counts.rotations / 8, abs=1e-4)
    assert metrics["rotations_per_token"] < few.counts.rotations * few.runs(8) / 8


class TestInterruption:
    def test_finished_cells_are_kept_and_the_next_run_goes_on(self, tmp_path: Path, code: Code) -> None:
        out = tmp_path / "rows.jsonl"
        cells = (cell(1), cell(2))
        spawned: list[Worker] = []

        def interrupted() -> Worker:
            if spawned:
                raise KeyboardInterrupt
            spawned.append(Worker(code))
            return spawned[0]

        with pytest.raises(KeyboardInterrupt):
            list(measure(cells, Record(out), CLEAN, interrupted, FEW))
        assert [row.cell for row in read_rows(out)] == [cell(1)]
        found = measured(out, InProcess(), *cells)
        assert [each.resumed for each in found] == [True, False]
        assert [row.cell for row in read_rows(out)] == list(cells)

    def test_a_failure_in_the_middle_of_a_cell_closes_its_process(self, tmp_path: Path) -> None:
        def broken(request: dict[str, Any], answer: dict[str, Any]) -> None:
            raise KeyboardInterrupt

        worker = InProcess(broken)
        with pytest.raises(KeyboardInterrupt):
            measured(tmp_path / "rows.jsonl", worker)
        assert worker.closed

    def test_time_ends_a_cell_after_one_step_at_least(self, tmp_path: Path) -> None:
        row = only_row(measured(tmp_path / "rows.jsonl", InProcess(), steps=Steps(50, 0.0)))
        assert row.metrics["steps"] == 1


def imprecise(bits: float, run: int = 1) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Changes the precision of one of the runs."""
    runs = iter(range(100))

    def change(request: dict[str, Any], answer: dict[str, Any]) -> None:
        if request["do"] == "run" and next(runs) == run:
            answer["precision_bits"] = bits

    return change


class TestFailures:
    @pytest.mark.parametrize("bits", [3.0, -math.inf, math.inf, math.nan])
    @pytest.mark.parametrize("run", [0, 2])
    def test_one_imprecise_step_fails_the_cell(self, bits: float, run: int, tmp_path: Path) -> None:
        row = only_row(measured(tmp_path / "rows.jsonl", InProcess(imprecise(bits, run))))
        assert (row.outcome, row.metrics) == ("failed", {})
        assert "bits of precision, and plans promise 12" in row.reason
        assert read_rows(tmp_path / "rows.jsonl") == [row]

    def test_a_wrong_delta_is_found_against_the_plain_adapter(self, tmp_path: Path) -> None:
        worker = InProcess()
        shim = worker._worker._shim

        class Wrong(shim.Prepared):  # type: ignore[misc, name-defined]
            def run(self) -> Any:
                run = super().run()
                run.delta[0, 5] += 1.0
                return run

        shim.Prepared = Wrong
        row = only_row(measured(tmp_path / "rows.jsonl", worker))
        assert row.outcome == "failed"
        assert "bits of precision" in row.reason

    def test_a_process_that_dies_fails_the_cell(self, tmp_path: Path) -> None:
        def dying(request: dict[str, Any], answer: dict[str, Any]) -> None:
            if request["do"] == "run":
                answer.clear()
                answer["error"] = "the process ended with status -9"

        row = only_row(measured(tmp_path / "rows.jsonl", InProcess(dying)))
        assert (row.outcome, row.reason) == ("failed", "the process ended with status -9")
        assert row.provenance.plan_digest == plan_of(cell()).digest

    def test_what_cannot_be_run_by_its_nature_is_refused_without_a_row(self, tmp_path: Path) -> None:
        (found,) = measured(tmp_path / "rows.jsonl", InProcess(), cell(packing="nope"))
        assert found.row is None
        assert "nope" in found.refused
        assert read_rows(tmp_path / "rows.jsonl") == []


def test_auto_is_a_packing_with_a_name_and_is_not_measured_twice(tmp_path: Path) -> None:
    chosen = with_packing(cell(packing="auto"))
    assert chosen.packing in get_manager().packings()
    found = measured(tmp_path / "rows.jsonl", InProcess(), chosen, cell(packing="auto"))
    assert [each.cell for each in found] == [chosen]


def test_without_a_profile_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELORA_PROFILES", str(tmp_path))
    (found,) = measured(tmp_path / "rows.jsonl", InProcess())
    assert found.row is not None
    assert "predicted_ms_per_token" not in found.row.metrics
    assert "helora calibrate --backend numpy" in found.unpredicted


def test_with_a_profile_the_time_is_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELORA_PROFILES", str(tmp_path))
    quick = cell(packing="cheetah")  # of a small ring
    ring = plan_of(quick).params.ring_degree
    made = CliRunner().invoke(main, ["calibrate", "--backend", "numpy", "--ring", str(ring), "--rounds", "1"])
    assert made.exit_code == 0, made.output
    assert only_row(measured(tmp_path / "rows.jsonl", InProcess(), quick)).metrics["predicted_ms_per_token"] > 0
    file = tmp_path / "numpy.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"cpu": "', '"cpu": "Another '), encoding="utf-8")
    (found,) = measured(tmp_path / "others.jsonl", InProcess(), quick)
    assert "was made with another cpu" in found.unpredicted


def made_up(tokens: int = 1, **metrics: float) -> Row:
    names = ("encrypt", "compute", "decrypt", "rotate", "multiply_plain", "add", "rescale", "sanitize", "transport")
    base = {f"{name}_ms_per_token": 0.0 for name in names}
    base |= {
        "ms_per_token": 10.0,
        "he_share": 0.5,
        "rotations_per_token": 5.0,
        "bytes_up_per_token": 1.0,
        "bytes_down_per_token": 1.0,
    }
    facts = record.provenance(CLEAN, "numpy", record.NO_PLAN)
    return Row(kind="e2e", cell=cell(tokens), metrics=base | metrics, provenance=facts)


@pytest.mark.parametrize(
    ("metrics", "label"),
    [
        ({"compute_ms_per_token": 9.0, "rotate_ms_per_token": 8.0}, "rotation-bound"),
        ({"compute_ms_per_token": 4.0, "encrypt_ms_per_token": 5.0}, "encryption-bound"),
        ({"compute_ms_per_token": 4.0, "decrypt_ms_per_token": 6.0}, "decrypt/transfer-bound"),
        ({"compute_ms_per_token": 9.0, "transport_ms_per_token": 8.0}, "decrypt/transfer-bound"),
        ({"compute_ms_per_token": 9.0, "multiply_plain_ms_per_token": 8.0}, "memory-bound"),
        ({"compute_ms_per_token": 9.0, "rotate_ms_per_token": 8.0, "predicted_ms_per_token": 9.0}, "rotation-bound"),
        ({"compute_ms_per_token": 9.0, "rotate_ms_per_token": 8.0, "predicted_ms_per_token": 6.0}, "overhead-bound"),
        ({"compute_ms_per_token": 9.0, "rotate_ms_per_token": 8.0, "predicted_ms_per_token": 4.0}, "rotation-bound"),
    ],
)
def test_the_bottleneck_is_what_was_timed(metrics: dict[str, Any], label: str) -> None:
    assert bound_by(made_up(**metrics)).label == label


def test_the_best_rows_are_good_ones_and_ties_go_to_the_faster() -> None:
    slow, fast = made_up(1, ms_per_token=20.0), made_up(2)
    frugal = made_up(3, ms_per_token=30.0, bytes_up_per_token=0.5)
    failed = msgspec.structs.replace(made_up(4), metrics={}, outcome="failed", reason="it broke")
    assert best([slow, failed, frugal, fast]) == {
        "tokens_per_second": fast,
        "rotations_per_token": fast,
        "bytes_per_token": frugal,
    }
    assert best([failed]) == {}
