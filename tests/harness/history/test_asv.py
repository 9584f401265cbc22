"""asv's own commands, on what was exported, tell our numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_harness.export.asv import machine_name, write_asv
from helora_harness.history_site import write_asv_project
from helora_harness.rows import Row, RowsRefused

MakeRow = Callable[..., Row]
MACHINE = "x86_64-2c-intel-xeon-platinum-8481c-1t-py3.11"


@pytest.fixture(scope="module")
def project(rows: list[Row], repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asv")
    assert write_asv_project(rows, repo, folder) == ["metrics that are not better when lower: precision_bits"]
    return folder


def _asv(project: Path, *arguments: str) -> str:
    pytest.importorskip("asv", reason="asv is not installed")
    command = [sys.executable, "-m", "asv", *arguments, "--config", str(project / "asv.conf.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _of(rows: list[Row], commit: str, **cell: Any) -> Row:
    (found,) = (
        row for row in rows if row.provenance.commit == commit and row.kind == "e2e"
        and all(getattr(row.cell, name) == value for name, value in cell.items())
    )  # fmt: skip
    return found


def _result(project: Path, commit: str) -> dict[str, Any]:
    path = project / "results" / MACHINE / f"{commit[:8]}-py3.11.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_machine_is_a_hardware_class(make_row: MakeRow) -> None:
    assert machine_name(make_row()) == MACHINE
    assert machine_name(make_row(cpu_model="", threads=4, machine="aarch64-4c-h200")).startswith("aarch64-4c-h200-")


def test_files_have_what_asv_expects(project: Path, rows: list[Row], commits: list[str]) -> None:
    benchmarks = json.loads((project / "results" / "benchmarks.json").read_text())
    assert benchmarks.pop("version") == 2
    about = benchmarks["e2e.tenseal.rank_bsgs.1536x1536r16.t8.ms_per_token"]
    assert about["params"] == about["param_names"] == []
    assert (about["type"], about["unit"], about["version"]) == ("track", "ms", "1")
    assert benchmarks["counts.rank_bsgs.576x192r8.t8.bytes_keys"]["unit"] == "bytes"
    assert not [name for name in benchmarks if "precision_bits" in name]
    assert all(benchmark["less_is_better"] is True for benchmark in benchmarks.values())
    result = _result(project, commits[-1])
    assert result["commit_hash"] == commits[-1]
    assert result["date"] == rows[-1].provenance.commit_date.timestamp() * 1000
    assert result["params"] == {"machine": MACHINE}


def test_what_was_not_measured_is_left_out_and_what_failed_is_null(project: Path, commits: list[str]) -> None:
    first, last = (_result(project, commits[at])["results"] for at in (0, -1))
    assert last["e2e.openfhe.rank_bsgs.576x192r8.t8.ms_per_token"][0] == [pytest.approx(last_ms(last))]
    assert last["e2e.openfhe.rank_bsgs.1536x1536r16.t8.ms_per_token"][0] is None
    assert not [name for name in first if "openfhe" in name]


def last_ms(results: dict[str, Any]) -> float:
    """What openfhe took: 1.3 times what TenSEAL took."""
    return float(1.3 * results["e2e.tenseal.rank_bsgs.576x192r8.t8.ms_per_token"][0][0])


def test_no_figure_is_an_average_over_cells(tmp_path: Path, make_row: MakeRow) -> None:
    """Cells that differ in any respect are benchmarks of their own, so that none moves another's line."""
    differing = [{"tokens": 1}, {"shape": "8:8:2"}, {"packing": "cheetah"}, {"backend": "rns"}, {"sanitized": True}]
    write_asv([make_row(**change) for change in ({}, *differing)], tmp_path / "results")
    (path,) = (tmp_path / "results").glob("*/c0ffee00-*.json")
    results = json.loads(path.read_text())["results"]
    assert len(results) == 1 + len(differing)
    assert all(of[0] == [100.0] and of[1] == [] for of in results.values())


def test_counts_stand_with_every_machine_and_alone_without_one(tmp_path: Path, make_row: MakeRow) -> None:
    counts = make_row(kind="counts", backend="", metrics={"rotations_per_token": 4})
    write_asv([counts], tmp_path / "alone")
    assert [path.parent.name for path in (tmp_path / "alone").glob("*/machine.json")] == ["any"]
    write_asv([counts, make_row(), make_row(threads=2)], tmp_path / "two")
    files = list((tmp_path / "two").glob("*/c0ffee00-*.json"))
    assert len(files) == 2
    for file in files:
        assert json.loads(file.read_text())["results"]["counts.rank_bsgs.1536x1536r16.t8.rotations_per_token"][0] == [4]


def test_rows_with_uncommitted_changes_are_left_out_and_counted(tmp_path: Path, make_row: MakeRow) -> None:
    left_out = write_asv([make_row(), make_row(dirty=True, tokens=1)], tmp_path / "results")
    assert left_out == ["1 rows with changes that their commit does not have"]


def test_only_what_an_export_wrote_is_replaced(tmp_path: Path, make_row: MakeRow, refused: Callable[..., Any]) -> None:
    write_asv([make_row()], tmp_path / "results")
    write_asv([make_row(commit="d" * 40)], tmp_path / "results")
    assert not list((tmp_path / "results").glob("*/c0ffee00-*.json"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").touch()
    with refused(RowsRefused, "mine"):
        write_asv([make_row()], tmp_path / "mine")
    assert (tmp_path / "mine" / "data").exists()


def test_asv_publish_makes_graphs_of_every_commit(project: Path, rows: list[Row], commits: list[str]) -> None:
    _asv(project, "publish", "--no-pull")
    index = json.loads((project / "html" / "index.json").read_text())
    assert set(index["revision_to_hash"].values()) == set(commits)
    name = "e2e.tenseal.rank_bsgs.576x192r8.t8.ms_per_token"
    points = json.loads((project / "html" / f"graphs/branch-main/machine-{MACHINE}/{name}.json").read_text())
    published = {index["revision_to_hash"][str(revision)]: value for revision, value in points}
    cell = {"backend": "tenseal", "packing": "rank_bsgs", "shape": "576:192:8"}
    assert published == {commit: _of(rows, commit, **cell).metrics["ms_per_token"] for commit in commits}
