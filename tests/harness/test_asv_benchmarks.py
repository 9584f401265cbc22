"""asv's benchmarks: discovery, what they import, what is n/a, and builds of commits that have fewer plugins."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helora_harness import benchmarks_build
from helora_harness.benchmarks.shim import NotThere, Prepared, compiled, plan_counts
from helora_harness.checkouts import Commit
from helora_harness.pytest_export import to_rows
from helora_harness.rows import RowsRefused

REPO = Path(__file__).parents[2]
BENCHMARKS = REPO / "harness" / "src" / "helora_harness" / "benchmarks"


@pytest.fixture(scope="module")
def cells() -> ModuleType:
    """The benchmarks, imported as asv does: from a package called benchmarks."""
    sys.path.insert(0, str(BENCHMARKS.parent))
    try:
        return importlib.import_module("benchmarks.cells")
    finally:
        sys.path.remove(str(BENCHMARKS.parent))


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_import_nothing_that_an_old_commit_may_lack(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
    assert imported <= {*sys.stdlib_module_names, "benchmarks"}


def test_every_benchmark_has_a_version_and_tracks_have_units_where_they_need_them(cells: ModuleType) -> None:
    classes = [cells.Counts, cells.Bytes, cells.Precision, cells.Clock, cells.Ahead]
    assert all(isinstance(each.version, str) for each in classes)
    assert cells.Bytes.track_bytes_keys.unit == "bytes"
    assert cells.Precision.track_lost_bits.unit == "bits"


def test_counts_are_those_of_the_plan(cells: ModuleType) -> None:
    benchmark = cells.Counts()
    benchmark.setup("rank_bsgs", "512:512:8")
    counts = plan_counts(compiled("rank_bsgs", "512:512:8"))
    assert benchmark.track_keyswitches("rank_bsgs", "512:512:8") == counts["keyswitches"] > 0
    assert benchmark.track_ct_pt("rank_bsgs", "512:512:8") == counts["ct_pt"] > 0


def test_precision_and_clock_run_on_the_emulation(cells: ModuleType) -> None:
    where = ("numpy", "rank_bsgs", "512:512:8")
    precision, clock = cells.Precision(), cells.Clock()
    precision.setup(*where)
    clock.setup(*where)
    assert 0 < precision.track_lost_bits(*where) < 45
    clock.time_token(*where)
    clock.peakmem_token(*where)


def test_both_phases_of_a_plan_ahead_of_time_run_on_the_emulation(cells: ModuleType) -> None:
    where = ("numpy", "precomputed", "64:64:4")
    ahead = cells.Ahead()
    ahead.setup(*where)
    assert ahead.track_ahead_ms_per_token(*where) > 0
    assert ahead.track_online_us_per_token(*where) > 0
    assert 0 < ahead.track_lost_bits(*where) < 45
    assert [getattr(ahead, name).unit for name in ("track_ahead_ms_per_token", "track_online_us_per_token")] == [
        "ms",
        "µs",
    ]


@pytest.mark.parametrize(
    ("backend", "packing"), [("numpy", "rank_bsgs"), ("numpy", "no_such_packing"), ("no_such_backend", "precomputed")]
)
def test_without_plans_ahead_of_time_they_are_not_there(cells: ModuleType, backend: str, packing: str) -> None:
    with pytest.raises(NotImplementedError):
        cells.Ahead().setup(backend, packing, "64:64:4")


def test_what_is_missing_is_not_implemented_and_says_why(cells: ModuleType) -> None:
    with pytest.raises(NotImplementedError, match="no_such_backend"):
        cells.Clock().setup("no_such_backend", "rank_bsgs", "512:512:8")
    with pytest.raises(NotThere, match="no_such_packing"):
        compiled("no_such_packing", "512:512:8")
    assert issubclass(NotThere, NotImplementedError)


def test_the_shim_runs_what_the_plain_adapter_says() -> None:
    prepared = Prepared("numpy", "zero_moai", "64:64:4", 3, seed=1)
    assert prepared.precision_bits(prepared.run().delta) > 8
    assert prepared.provides_security is False


def test_a_commit_with_fewer_plugins_is_built_of_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran.append(command))
    for folder in ("", "plugins/helora-numpy", "plugins/_template"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "pyproject.toml").touch()
    benchmarks_build.build(tmp_path, tmp_path / "cache" / "wheels")
    assert [command[-1] for command in ran] == [str(tmp_path), str(tmp_path / "plugins" / "helora-numpy")]


def test_the_configuration_keeps_wheels_in_a_folder_of_the_cache() -> None:
    lines = (REPO / "asv.conf.json").read_text(encoding="utf-8").splitlines()
    config = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    assert config["build_command"][-1].endswith("{build_cache_dir}/wheels")
    assert (REPO / config["benchmark_dir"]).is_dir()


def test_results_of_pytest_benchmark_become_rows(make_commit: Commit) -> None:
    prepared = Prepared("numpy", "rank_bsgs", "64:64:4", 2, seed=1)
    run = prepared.run()
    from helora_harness.benchmarks.shim import plan_facts

    extra = {
        "cell": {"backend": "numpy", "packing": "rank_bsgs", "shape": "64:64:4", "tokens": 2},
        "counts": plan_counts(prepared.plan),
        "plan": plan_facts(prepared.plan),
        "runs": prepared.plan.runs(2),
        "precision_bits": prepared.precision_bits(run.delta),
        "bytes_up": run.bytes_up,
        "bytes_down": run.bytes_down,
        "library": "numpy",
        "library_version": "2",
        "provides_security": False,
    }
    document = {
        "datetime": "2026-03-02T09:00:00+00:00",
        "commit_info": {"id": make_commit.hash, "dirty": False},
        "benchmarks": [{"stats": {"median": 0.004}, "extra_info": extra}],
    }
    (row,) = to_rows(document, make_commit)
    assert row.metrics["ms_per_token"] == pytest.approx(2.0)
    assert row.provenance.security == "none"
    assert row.metrics["precision_bits"] + row.metrics["lost_bits"] == pytest.approx(53)
    with pytest.raises(RowsRefused, match="not a result"):
        to_rows({"benchmarks": [{}]}, make_commit)


@pytest.fixture
def make_commit() -> Commit:
    """Some commit."""
    from datetime import datetime, timezone

    return Commit(40 * "a", datetime(2026, 3, 2, tzinfo=timezone.utc))
