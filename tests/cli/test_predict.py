"""``helora predict``: the best plan's time on this machine, or what is missing to tell it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.request import BackendTraits
from helora_core.host.manager import get_manager
from helora_core.planning.predict import predict
from helora_core.planning.profile import Profile
from helora_core.planning.profile_files import write_profile
from tests.cli.screens import screen

SHAPE = ("--shape", "96:64:8", "--backend", "numpy")
RANK_BSGS = ("--packing", "rank_bsgs")


@pytest.fixture
def profile(make_profile: Callable[..., Profile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """numpy as if it had been calibrated, each operation at a microsecond, but arithmetic of words at a nanosecond."""

    def time(operation: str, level: int, ring: int) -> float:
        return 1.0 if operation.startswith("online") else 1e3 * ring / 8192

    found = make_profile(backend="numpy", time=time)
    write_profile(found, tmp_path / "numpy.json")
    monkeypatch.setenv("HELORA_PROFILES", str(tmp_path))
    return found


def test_the_keys_are_those_documented(
    helora_json: Callable[..., Any], documented: Callable[..., set[str]], profile: Profile
) -> None:
    row = helora_json("predict", *SHAPE)
    assert set(row) == documented("Keys of a candidate") | documented("helora predict")
    assert row["module"] == "96:64:8"
    assert row["refusal"] is None


def test_it_is_the_prediction_of_the_plan(helora_json: Callable[..., Any], profile: Profile) -> None:
    row = helora_json("predict", *SHAPE, *RANK_BSGS, "--ring", 8192, "--tokens", 5, "--rtt-ms", 3)
    strategy = get_manager().load_packing("rank_bsgs")
    traits = BackendTraits.of([get_manager().load_backend("numpy").capabilities])
    plan = compile_plan(
        ModuleShape.parse("96:64:8"),
        strategy,
        tokens=5,
        ring_degree=8192,
        precision_bits=14,
        sanitize_bits=40,
        traits=traits,
    )
    expected = predict(plan, profile, tokens=5, rtt_ms=3)
    assert row["plan"]["digest"] == plan.digest
    assert row["ms_per_token"] == pytest.approx(expected.ms_per_token)
    assert row["round_trip_ms"] == pytest.approx(3 * expected.runs / 5)


@pytest.mark.usefixtures("profile")
def test_it_is_the_first_that_explain_ranks(helora_json: Callable[..., Any]) -> None:
    row = helora_json("predict", *SHAPE, "--tokens", 4)
    (document,) = helora_json("explain", *SHAPE, "--tokens", 4)
    assert {key: row[key] for key in document["ranking"][0]} == document["ranking"][0]


@pytest.mark.usefixtures("profile")
def test_a_model_gives_a_list(helora_json: Callable[..., Any]) -> None:
    rows = helora_json("predict", "--model", "qwen2.5-1.5b", "--module", "[kv]_proj", *SHAPE[2:], *RANK_BSGS)
    assert [row["module"].rpartition(".")[2] for row in rows] == ["k_proj", "v_proj"]


@pytest.mark.usefixtures("profile")
def test_people_see_phases_operations_and_what_it_is_bound_by(helora: Callable[..., Any]) -> None:
    shown = helora("predict", *SHAPE, *RANK_BSGS, "--rtt-ms", 50)
    assert shown.exit_code == 0
    for word in ("96:64:8: ", "ms per token with rank_bsgs on numpy", "encrypt", "compute is", "latency-bound"):
        assert word in shown.stdout


@pytest.mark.usefixtures("profile")
def test_people_see_both_phases_in_eighty_columns() -> None:
    ahead = ("--assume", "honest-keys", "--target-bits", 10, "--ahead", 10_000)
    for packing in (("--packing", "precomputed"), ()):
        shown = screen(["predict", *SHAPE, *ahead, *packing, "--rtt-ms", 1], width=80)
        assert (shown.status, shown.widest <= 80) == (0, True)
        words = " ".join(shown.text.split())
        for said in ("with precomputed on numpy", "ahead client", "2 batches of 8192", "stored", "online encrypt"):
            assert said in words
        assert ("pays from" in words) == (not packing)


def test_without_a_profile_it_says_to_calibrate(refusal: Callable[..., Any]) -> None:
    error = refusal("predict", *SHAPE, *RANK_BSGS)
    assert error["code"] == "profile-missing"
    assert "numpy" in error["message"]
    assert "helora calibrate" in error["hint"]


@pytest.mark.usefixtures("profile")
def test_where_nothing_may_run_it_says_so(refusal: Callable[..., Any]) -> None:
    error = refusal("predict", *SHAPE, "--packing", "zero_moai")
    assert error["code"] == "nothing-eligible"
    assert "does not keep weights private" in error["message"]
    assert "helora explain" in error["hint"]
