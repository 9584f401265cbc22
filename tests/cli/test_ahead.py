"""Plans that run ahead of time, on the command line: both phases, and what has to be accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.data.bundled import DIRECTORY
from tests.cli.screens import screen

ADAPTER = DIRECTORY / "adapter"
AHEAD = ("--packing", "precomputed", "--target-bits", 12)
ACCEPTED = ("--assume", "honest-keys")
SHAPE = ("--shape", "576:768:16")
ONE = ("--adapter", ADAPTER, "--module", "model.layers.3.self_attn.q_proj")


def test_people_see_both_phases_and_the_assumption_in_80_columns() -> None:
    shown = screen(["plan", *SHAPE, *AHEAD, *ACCEPTED], width=80)
    assert (shown.status, shown.widest <= 80) == (0, True)
    text = " ".join(shown.text.split())
    for said in (
        "a word of 64 bits, data primes of [42, 42] bits, special [], log2(QP) = 148; 128 bits by guidelines-2024",
        "honest keys: clients make their public keys as the protocol says",
        "8192 tokens a batch, in 1 round trip: 576 encryptions, 21504 products, 768 decryptions",
        "a token: 10656 bytes up, 5952 down, 2592 kept by the client",
        "statistical distance 2^-79.1 a result",
        "1 round trip without encryption",
        "a token: 4608 bytes up, 2304 down, 21504 multiplications",
        "shows up to 46 bits of each number of down·y",
    ):
        assert said in text


def test_the_keys_are_those_documented(helora_json: Callable[..., Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    row = helora_json("plan", *SHAPE, *AHEAD, *ACCEPTED)
    for phase, found in row["phases"].items():
        for key in found:
            assert f"`{phase}.{key}`" in page or key in helora_json("plan", *SHAPE, "--packing", "rank_bsgs")
    assert (row["round_trips"], row["assumes"], row["wrap_bits"]) == (1, ["honest keys"], 64)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("plan", SHAPE),
        ("plan", (*SHAPE, "--rings")),
        ("predict", SHAPE),
        ("compile", (*ONE, "--out", "artifact")),
        ("run", (*ONE, "--input", "x.npy", "--output", "delta.npy")),
        ("demo", ("--module", "model.layers.3.self_attn.q_proj")),
    ],
)
@pytest.mark.parametrize("private", [(), ("--no-private-weights",)])
def test_every_command_refuses_until_it_is_accepted(
    refusal: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: Any,
    private: Any,
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((1, 576)))
    error = refusal(command, *options, *AHEAD, *private)
    assert "forged key" in error["message"]
    if command != "predict":
        assert error["code"] == "leakage-refused"
        assert "--assume honest-keys" in error["hint"]


def test_only_what_there_is_can_be_accepted(helora: Callable[..., Any]) -> None:
    shown = helora("plan", *SHAPE, *AHEAD, "--assume", "honesty")
    assert shown.exit_code == 2
    assert "there is no assumption 'honesty'" in shown.stderr
    assert "honest-keys" in shown.stderr


def test_no_configuration_file_accepts_anything(
    helora: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("helora.toml").write_text('assume = "honest-keys"\n')
    assert helora("plan", *SHAPE, *AHEAD).exit_code != 0


def test_explain_says_why_it_is_left_out(helora_json: Callable[..., Any]) -> None:
    (document,) = helora_json("explain", "--shape", "96:64:8")
    refusals = {row["packing"]: row["refusal"] for row in document["ranking"]}
    for name in ("precomputed", "precomputed_exact"):
        assert "forged key" in refusals[name]


def test_the_list_of_packings_says_what_has_to_be_accepted(helora: Callable[..., Any]) -> None:
    lines = helora("packings").stdout.splitlines()
    assert any(line.split()[0] == "precomputed" and "nothing†" in line for line in lines if line.split())
    assert any(line.startswith("† rests on honest keys of every client") for line in lines)


def test_rings_are_compared(helora_json: Callable[..., Any]) -> None:
    rows = helora_json("plan", *SHAPE, "--rings", *AHEAD, *ACCEPTED)
    assert {row["ring_degree"] for row in rows if row["possible"]} == {4096, 8192, 16384}
    assert all(row["reason"] for row in rows if not row["possible"])
