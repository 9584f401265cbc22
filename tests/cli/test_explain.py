"""``helora explain``: every packing with its figures or its refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.host.manager import get_manager
from helora_core.planning.profile_files import write_profile

SHAPE = ("--shape", "96:64:8", "--backend", "numpy")


@pytest.fixture
def profile(make_profile: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy as if it had been calibrated, each operation at a microsecond and each rotation at two milliseconds."""
    found = make_profile(
        backend="numpy", time=lambda operation, level, ring: 2e6 if operation.startswith("rotate") else 1e3
    )
    write_profile(found, tmp_path / "numpy.json")
    monkeypatch.setenv("HELORA_PROFILES", str(tmp_path))


class TestJSON:
    @pytest.mark.usefixtures("profile")
    def test_the_keys_are_those_documented(
        self, helora_json: Callable[..., Any], documented: Callable[..., set[str]]
    ) -> None:
        (document,) = helora_json("explain", *SHAPE)
        assert set(document) == documented("helora explain")
        keys = documented("Keys of a candidate")
        for row in document["ranking"]:
            assert set(row) == (keys if row["refusal"] is None else set(row) & keys)

    @pytest.mark.usefixtures("profile")
    def test_every_packing_is_there_the_cheapest_first_and_the_refused_last(
        self, helora_json: Callable[..., Any]
    ) -> None:
        (document,) = helora_json("explain", *SHAPE, "--tokens", 4)
        assert (document["module"], document["tokens"]) == ("96:64:8", 4)
        rows = document["ranking"]
        assert {row["packing"] for row in rows} == set(get_manager().packings())
        eligible = [row for row in rows if row["refusal"] is None]
        assert rows[: len(eligible)] == eligible
        assert [row["cost"] for row in eligible] == sorted(row["cost"] for row in eligible)
        for row in eligible:
            assert row["ms_per_token"] == pytest.approx(row["cost"] / 4)
            phases = [row[f"{phase}_ms"] for phase in ("encrypt", "compute", "decrypt", "round_trip")]
            assert row["ms_per_token"] == pytest.approx(sum(phases))
            assert sum(row["by_operation_ms"].values()) == pytest.approx(row["compute_ms"])
        for row in rows[len(eligible) :]:
            assert row["refusal"]
            assert row["hint"]
            assert (row["plan"], row["cost"], row["ms_per_token"]) == (None, None, None)

    def test_without_a_profile_there_are_costs_and_no_times(self, helora_json: Callable[..., Any]) -> None:
        (document,) = helora_json("explain", *SHAPE, "--packing", "rank_bsgs")
        (row,) = document["ranking"]
        assert row["ms_per_token"] is None
        assert row["cost"] > 0
        assert "bottleneck" not in row
        assert row["plan"]["packing"] == "rank_bsgs"

    def test_modules_of_one_shape_have_one_ranking(self, helora_json: Callable[..., Any]) -> None:
        rows = helora_json("explain", "--model", "qwen2.5-1.5b", "--module", "?_proj", "--packing", "rank_bsgs")
        assert [row["module"].rpartition(".")[2] for row in rows] == ["q_proj", "k_proj", "v_proj", "o_proj"]
        assert rows[0]["ranking"] == rows[3]["ranking"]
        assert rows[1]["ranking"] == rows[2]["ranking"] != rows[0]["ranking"]

    def test_with_shared_inputs_there_are_fewer(self, helora_json: Callable[..., Any]) -> None:
        rows = helora_json(
            "explain", "--model", "qwen2.5-1.5b", "--module", "[qkv]_proj", "--packing", "rank_bsgs", "--share"
        )
        assert len(rows) == 1


class TestPeople:
    @pytest.mark.usefixtures("profile")
    def test_they_see_ranks_and_refusals(self, helora: Callable[..., Any]) -> None:
        shown = helora("explain", *SHAPE, "--tokens", 4)
        assert shown.exit_code == 0
        assert "96:64:8, 4 tokens in flight" in shown.stdout
        assert "not zero_moai on numpy: Packing zero_moai does not keep weights private" in shown.stdout
        assert "rotation-bound" in shown.stdout
        assert "not calibrated" not in shown.stdout

    def test_they_are_told_what_was_not_calibrated(self, helora: Callable[..., Any]) -> None:
        shown = helora("explain", *SHAPE, "--packing", "rank_bsgs")
        assert "not calibrated" in shown.stdout
        assert "?" in shown.stdout

    def test_without_any_backend_there_is_still_a_ranking(self, in_new_process: Callable[..., Any]) -> None:
        shown = in_new_process("-m", "helora_core", "explain", "--shape", "64:64:4", HELORA_PLUGINS="")
        assert shown.returncode == 0, shown.stderr
        assert "rank_bsgs" in shown.stdout
        assert "not zero_moai: Packing zero_moai" in shown.stdout


@pytest.mark.parametrize(
    ("options", "refused", "because"),
    [
        ((), "zero_moai", "does not keep weights private"),
        (("--max-rotations", 0.001), "rank_bsgs", "rotations per token"),
        (("--target-bits", 60), "rank_bsgs", "60"),
        (("--ring", 2048), "rank_bsgs", "2048"),
        (("--security", 256, "--ring", 8192), "rank_bsgs", "256"),
    ],
    ids=["private weights", "budget", "precision", "ring", "security"],
)
def test_every_constraint_refuses_with_its_own_reason(
    helora_json: Callable[..., Any], options: tuple[Any, ...], refused: str, because: str
) -> None:
    (document,) = helora_json("explain", *SHAPE, "--packing", refused, *options)
    (row,) = document["ranking"]
    assert because in row["refusal"]
