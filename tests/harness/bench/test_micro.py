"""Times of single operations: which there are, at which levels, and what is refused. No time is judged."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from helora_core.cli.main import main
from helora_core.errors import HeloraError
from helora_harness.bench import record
from helora_harness.bench.micro import measure
from helora_harness.bench.operations import Operations, chain_of
from helora_harness.bench.record import Origin, Record
from helora_harness.checkouts import Commit
from helora_harness.metrics import metric
from helora_harness.rows import read_rows

CLEAN = Origin(Commit("a" * 40, datetime(2026, 1, 1, tzinfo=timezone.utc)), dirty=False)
AT_EVERY_LEVEL = {"encode", "decrypt", "ct_pt", "add", "rotate", "rotate_hoisted", "serialize", "deserialize"}
AT_THE_TOP = {"encrypt_secret_key", "encrypt_public_key", "serialize_fresh", "deserialize_fresh"}


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", "micro", *map(str, arguments)])


class Answers:
    """A worker whose operations took made-up times."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        plan = {"digest": "", "ring_degree": request["ring"], "modulus_bits": [60, 40, 60], "scale_bits": [40]}
        return {
            "median_ns": {"rotate@1": 2e6, "rotate@0": 1e6},
            "minimum_ns": {"rotate@1": 1.5e6, "rotate@0": 0.5e6},
            "plan": {**plan, "levels": 1, "security": "128 bits, classical"},
            "provides_security": False,
        }

    def close(self) -> None:
        pass


def test_every_operation_is_timed_at_every_level_that_it_has(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = bench(
        "--backend", "numpy", "--backend", "nowhere", "--ring", "8192", "--rounds", "2", "--out", out, "--json"
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    (row,) = read_rows(out)
    assert document["rows"][0]["metrics"] == row.metrics
    assert document["schema"] == 1
    assert document["absent"] == {"nowhere": "no installed plugin offers it"}
    assert document["best"]["rotate_ms@2 N=8192"]["backend"] == "numpy"
    assert (row.cell.backend, row.cell.packing, row.cell.shape, row.cell.tokens) == ("numpy", "", "", 1)
    assert (row.provenance.ring_degree, row.provenance.levels, row.provenance.security) == (8192, 2, "none")
    expected = {f"{name}@{level}" for name in AT_EVERY_LEVEL for level in (0, 1, 2)}
    expected |= {f"{name}@2" for name in AT_THE_TOP} | {"rescale@1", "rescale@2"}
    found = {name.replace("_ms@", "@") for name in row.metrics if "_ms@" in name and "_min_" not in name}
    assert found == expected
    for name in expected:
        operation, _, level = name.partition("@")
        least, median = row.metrics[f"{operation}_min_ms@{level}"], row.metrics[f"{operation}_ms@{level}"]
        assert 0 < least <= median
    assert metric("rotate_min_ms@2").unit == "ms"
    assert "these are not the times of encryption" in done.stderr


def test_levels_and_rings_can_be_chosen(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = bench("--backend", "numpy", "--ring", "4096", "--level", "1", "--rounds", "1", "--out", out)
    assert done.exit_code == 0, done.output
    (row,) = read_rows(out)
    assert {name.partition("@")[2] for name in row.metrics if "@" in name} == {"1"}
    assert "N = 4096" in done.stdout
    assert "rotate hoisted" in done.stdout


def test_a_level_that_no_secure_chain_has_is_refused(tmp_path: Path) -> None:
    done = bench("--backend", "numpy", "--ring", "4096", "--level", "5", "--rounds", "1", "--out", tmp_path / "rows")
    assert done.exit_code == 1
    assert "not measured, numpy at N = 4096: " in done.stderr
    assert "4096" in done.stderr


def test_a_row_is_taken_up_if_it_has_the_levels_and_the_rounds_at_that_ring(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"

    def asked(rings: list[int], levels: list[int], rounds: int) -> list[bool]:
        found = measure(["numpy"], rings, levels, rounds, Record(file), CLEAN, Answers)
        return [each.resumed for each in found]

    assert asked([8192, 16384], [], 2) == [False, False]
    assert asked([8192, 16384], [1], 2) == [True, True]
    assert asked([8192], [], 3) == [False]
    assert asked([8192], [2], 3) == [False]
    assert asked([4096], [], 2) == [False]


def test_progress_is_complete_whatever_is_left_out(tmp_path: Path) -> None:
    class Refusing(Answers):
        def ask(self, **request: Any) -> dict[str, Any]:
            return {"error": "it rescales by itself", "absent": True}

    rounds: list[None] = []
    (found,) = measure(
        ["numpy"], [8192], [], 4, Record(tmp_path / "rows"), CLEAN, Refusing, on_round=lambda: rounds.append(None)
    )
    assert found.refused == "it rescales by itself"
    assert len(rounds) == 4


def test_the_chain_has_the_depth_asked_or_what_is_secure() -> None:
    assert chain_of(8192, None).max_level == 2
    assert chain_of(2048, None).max_level == 0
    assert chain_of(16384, 5).max_level == 5
    with pytest.raises(HeloraError):
        chain_of(4096, 5)


def test_a_library_that_rescales_by_itself_is_not_timed_by_level(monkeypatch: pytest.MonkeyPatch) -> None:
    from helora_core.errors import CapabilityMissing
    from helora_harness.bench import operations

    def refuse(backend: object) -> None:
        raise CapabilityMissing("It rescales by itself.", hint="Take another.")

    monkeypatch.setattr(operations, "require_calibratable", refuse)
    with pytest.raises(NotImplementedError, match="rescales by itself"):
        Operations("numpy", 8192, None)


def test_nothing_of_the_record_is_lost_when_a_ring_is_added(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for ring in (8192, 16384):
        list(measure(["numpy"], [ring], [], 1, Record(file), CLEAN, Answers))
    assert [row.provenance.ring_degree for row in read_rows(file)] == [8192, 16384]
    assert record.DEFAULT_OUT == "helora-bench.jsonl"
