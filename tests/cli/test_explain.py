"""``helora explain``: every packing with its figures or its refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.host.manager import get_manager
from helora_core.planning.profile_files import write_profile
from tests.cli.screens import screen

SHAPE = ("--shape", "96:64:8", "--backend", "numpy")


@pytest.fixture
def profile(make_profile: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy as if it had been calibrated, each operation at a microsecond and each rotation at two milliseconds; but
    arithmetic of words at a nanosecond.
    """
    times = {"rotate": 2e6, "online": 1.0}
    found = make_profile(
        backend="numpy", time=lambda operation, level, ring: times.get(operation.partition("_")[0], 1e3)
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


AHEAD = ("--assume", "honest-keys", "--target-bits", 10)


class TestAheadOfTime:
    @pytest.mark.usefixtures("profile")
    def test_what_is_prepared_is_documented_and_adds_up(
        self, helora_json: Callable[..., Any], documented: Callable[..., set[str]]
    ) -> None:
        (document,) = helora_json("explain", *SHAPE, *AHEAD, "--tokens", 4, "--ahead", 10_000)
        rows = {row["packing"]: row for row in document["ranking"] if row["refusal"] is None}
        assert rows["rank_bsgs"]["ahead"] is None
        row = rows["precomputed"]
        ahead, offline = row["ahead"], row["plan"]["phases"]["offline"]
        assert set(ahead) == documented("Keys of what is prepared")
        assert (ahead["expected_tokens"], ahead["batches"], ahead["tokens_per_batch"]) == (10_000, 2, 8192)
        share = 2 / 10_000
        per_batch = ahead["client_ms_per_batch"] + ahead["server_ms_per_batch"]
        assert ahead["ms_per_token"] == pytest.approx(share * per_batch)
        assert ahead["bytes_up_per_token"] == pytest.approx(share * 8192 * offline["bytes_up_per_token"], rel=1e-3)
        assert row["ms_per_token"] == pytest.approx(ahead["ms_per_token"] + ahead["online_ms_per_token"])
        phases = [row[f"{phase}_ms"] for phase in ("encrypt", "compute", "decrypt", "round_trip")]
        assert ahead["online_ms_per_token"] == pytest.approx(sum(phases))

    @pytest.mark.usefixtures("profile")
    def test_it_is_chosen_from_where_it_pays_on(self, helora_json: Callable[..., Any]) -> None:
        def best(*options: object) -> Any:
            (document,) = helora_json("explain", *SHAPE, *AHEAD, "--tokens", 4, *options)
            return document["ranking"]

        rows = {row["packing"]: row for row in best() if row["refusal"] is None}
        told = rows["precomputed"]["ahead"]
        assert told["against"] == next(row["packing"] for row in rows.values() if row["ahead"] is None)
        assert best("--ahead", told["pays_from"])[0]["packing"] == "precomputed"
        assert best("--ahead", told["pays_from"] - 1)[0]["packing"] == told["against"]

    @pytest.mark.parametrize(
        ("options", "allowed"), [((), True), (("--min-bits", 30), False), (("--target-bits", 30), False)], ids=str
    )
    def test_its_precision_is_held_to_the_least_unless_more_is_aimed_at(
        self, helora_json: Callable[..., Any], options: tuple[object, ...], allowed: bool
    ) -> None:
        for packing in ((), ("--packing", "precomputed")):
            (document,) = helora_json("explain", *SHAPE, *AHEAD[:2], *packing, *options)
            (row,) = [row for row in document["ranking"] if row["packing"] == "precomputed"]
            assert (row["refusal"] is None) == allowed

    @pytest.mark.usefixtures("profile")
    def test_people_are_told_in_eighty_columns(self) -> None:
        asked = ["explain", *SHAPE, *AHEAD, "--tokens", 4, "--packing", "precomputed", "--ahead", 10_000]
        shown = screen(asked, width=80)
        assert shown.widest <= 80
        _, _, told = shown.text.partition("  precomputed on numpy: ")
        words = " ".join(told.split())
        assert "2 batches of 8192 for 10000 tokens" in words
        assert "pays" not in words  # nothing else was compared

    @pytest.mark.usefixtures("profile")
    def test_what_is_not_accepted_is_refused_with_the_option(self, helora_json: Callable[..., Any]) -> None:
        (document,) = helora_json("explain", *SHAPE, "--target-bits", 10, "--ahead", 10**6)
        (row,) = [row for row in document["ranking"] if row["packing"] == "precomputed"]
        assert "--assume honest-keys" in row["hint"]

    @pytest.mark.parametrize("tokens", [0, "many"])
    def test_ahead_is_a_number_of_tokens(self, helora: Callable[..., Any], tokens: object) -> None:
        assert helora("explain", *SHAPE, "--ahead", tokens).exit_code == 2


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
