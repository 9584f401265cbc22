"""The benchmark of Python's own cost counts a program's operations, and its null library does nothing."""

from __future__ import annotations

import json

from click.testing import CliRunner

from helora_harness import ab_worker, cli_overhead
from helora_harness.bench.null_library import NullBackend
from helora_harness.benchmarks.shim import Prepared, compiled


def test_the_null_library_returns_its_argument_and_the_ledger_still_counts() -> None:
    null = Prepared("numpy", "rank_bsgs", "512:512:8", 1, seed=1, wrap=NullBackend)
    (output,) = null.program()()
    assert output.data.level == null.plan.params.max_level  # as uploaded, though the program rescales
    executed, predicted = null.ledger.counts(), null.plan.counts
    assert (executed.rotations, executed.ct_pt) == (predicted.rotations, predicted.ct_pt)


def test_a_worker_tells_costs_of_the_program() -> None:
    worker = ab_worker.Worker()
    found = worker.answer({"do": "overhead", "cell": ["rank_bsgs", "512:512:8", 1]})
    assert found["operations"] == len(compiled("rank_bsgs", "512:512:8").program.ops)
    assert found["metering_ns"] > 0
    assert found["ns_per_operation"] > 0
    assert 0 < found["library_ns"] < found["request_ns"]


def test_the_command_times_the_working_tree() -> None:
    done = CliRunner().invoke(cli_overhead.overhead, ["--rounds", "1", "--json"])
    document = json.loads(done.stdout)
    assert [row["code"] for row in document["rows"]] == ["here"] * len(cli_overhead.CELLS)
    assert all(row["request_us"] > row["library_us"] > 0 for row in document["rows"])
