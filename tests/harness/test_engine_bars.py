"""The engine's bars as data: every row is there, and held means what it says. Figures are not tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helora_core.errors import BackendUnavailable
from helora_harness.engine import context, operations, table
from helora_harness.engine.bars import AVX2, AVX512, BARS, GROUPS, Bar, Figure, Sense, chosen, completed, held, verdict

ROWS = {
    "encrypt": (10, 5, 20),
    "ct-pt": (8, 4, 15),
    "rescale": (5, 3, 9),
    "rotate": (6, 4, 9),
    "hoisted": (9, 5, 18),
    "decrypt": (10, 5, 20),
    "sanitize": (12, 6, 20),
    "sanitize-pool": (None, None, None),
    "rank-bsgs": (10, 7, 20),
    "cheetah": (200, 200, 400),
    "cheetah-pool": (100, 100, None),
    "cheetah-no-pool": (35, 35, None),
    "two-round": (0.4, 0.4, 0.2),
    "adapter": (45, 45, 15),
    "adapter-ratio": (None, None, None),
    "cpmm": (1.5, 5, 0.5),
    "cpmm-flooded": (2.5, 5, None),
    "bytes-up": (150, 150, 15),
    "bytes-down": (75, 75, 20),
    "ntt-2048": (1.5, None, None),
    "ntt-4096": (3.2, None, None),
    "ntt-8192": (6.8, None, None),
    "vfhe-ntt": (1, 1, None),
    "vfhe-product": (1, 1, None),
    "vfhe-rescale": (1, 1, None),
    "vfhe-rotate": (1, 1, None),
    "ahead-576-8192": (60, 60, 36),
    "ahead-576-4096": (45, 45, 25),
    "ahead-1536-8192": (150, 150, 90),
    "ahead-4096-8192": (380, 380, 230),
    "online-server": (2, 2, 0.8),
    "online-bytes": (7, 7, None),
    "online-adapter": (1.5, 1.5, 0.3),
    "online-outlier": (None, None, None),
    "ahead-best": (15, 15, 50),
}
"""The design's table, row by row: bars for AVX-512 and for AVX2, and the moonshot."""


def test_the_table_has_every_row_of_the_design_and_no_other() -> None:
    assert {bar.name: (bar.avx512, bar.avx2, bar.moonshot) for bar in BARS} == ROWS
    assert [bar.name for bar in BARS if bar.least_bits] == [
        "rank-bsgs", "cheetah", "cheetah-pool", "cheetah-no-pool", "two-round", "adapter", "cpmm", "cpmm-flooded",
        "online-adapter", "online-outlier",
    ]  # fmt: skip
    most = {
        "two-round",
        "adapter",
        "cpmm",
        "cpmm-flooded",
        "bytes-up",
        "bytes-down",
        "ahead-576-8192",
        "ahead-576-4096",
        "ahead-1536-8192",
        "ahead-4096-8192",
        "online-server",
        "online-bytes",
        "online-adapter",
        "online-outlier",
        "ntt-2048",
        "ntt-4096",
        "ntt-8192",
    }
    assert {bar.name for bar in BARS if bar.sense is Sense.AT_MOST} == most
    assert set(table.measures(table.QUICK, quick=True)) == set(GROUPS)


FASTER = Bar(name="a", group="a", work="a", avx512=10, avx2=5)
SMALLER = Bar(name="b", group="b", work="b", unit="ms", sense=Sense.AT_MOST, avx512=4, least_bits=12)


@pytest.mark.parametrize(
    ("bar", "kernels", "value", "bits", "said"),
    [
        (FASTER, AVX512, 10.0, None, "held"),
        (FASTER, AVX512, 9.0, None, "MISSED: 90%"),
        (FASTER, AVX2, 5.0, None, "held"),
        (FASTER, AVX2, 2.5, None, "MISSED: 50%"),
        (FASTER, "scalar", 2.5, None, "no bar"),
        (FASTER, AVX2, None, None, "not run"),
        (SMALLER, AVX512, 4.0, 12.0, "held"),
        (SMALLER, AVX512, 5.0, 12.0, "MISSED: 80%"),
        (SMALLER, AVX512, 3.0, 11.9, "MISSED: 11.9 bits"),
        (SMALLER, AVX512, 3.0, None, "MISSED: unknown bits"),
        (SMALLER, AVX2, 3.0, 13.0, "no bar"),
    ],
)
def test_a_bar_is_held_by_the_kernels_that_ran(
    bar: Bar, kernels: str, value: float | None, bits: float | None, said: str
) -> None:
    figure = Figure(bar=bar.name, value=value, bits=bits, skipped="" if value else "there is no SEAL")
    assert verdict(bar, figure, kernels) == said
    assert held(bar, figure, kernels) == {"held": True, "MISS": False}.get(said[:4])


def test_bars_are_chosen_by_name_or_group() -> None:
    assert chosen(()) == list(BARS)
    assert [bar.name for bar in chosen(["ntt-4096"])] == ["ntt-4096"]
    assert [bar.group for bar in chosen(["ntt", "cheetah"])] == ["cheetah"] * 3 + ["ntt"] * 3
    with pytest.raises(KeyError, match="speed"):
        chosen(["speed"])


def test_nothing_is_left_out_in_silence() -> None:
    bars = chosen(["cheetah"])
    figures = completed(bars, [Figure(bar="cheetah-pool", value=1.0)], "it broke")
    assert [(each.bar, each.skipped) for each in figures] == [
        ("cheetah", "it broke"), ("cheetah-pool", ""), ("cheetah-no-pool", "it broke"),
    ]  # fmt: skip


def _refusing() -> Iterator[Figure]:
    yield Figure(bar="bytes-up", value=151.0)
    raise BackendUnavailable("There is no engine.", hint="Install it.")


def _absent() -> Iterator[Figure]:
    raise operations.NotHere("vfhe is not installed")
    yield


def test_a_measurement_that_fails_says_why_and_the_others_go_on() -> None:
    bars = chosen(["bytes", "vfhe"])
    figures = table.measured(bars, {"bytes": _refusing, "vfhe": _absent}, lambda count: None)
    assert [each.bar for each in figures] == [bar.name for bar in bars]
    assert figures[0].value == 151.0
    assert "There is no engine." in figures[1].skipped
    assert {each.skipped for each in figures[2:]} == {"vfhe is not installed"}
    printed = list(table.lines(bars, figures, AVX2))
    assert max(map(len, printed)) <= 80
    assert any("MISSED: 99%" in line for line in printed)
    assert sum("not run: vfhe is not installed" in line for line in printed) == 4


def test_the_document_has_the_bar_that_counts_and_the_verdict() -> None:
    bars = chosen(["bytes"])
    figures = [Figure(bar="bytes-up", value=100.0, rounds=1), Figure(bar="bytes-down", skipped="no plan")]
    found = json.loads(json.dumps(table.document(bars, figures, AVX2, quick=True)))
    assert set(found) == {"schema", "kernels", "quick", "machine", "cpu_model", "python", "os", "rows"}
    assert (found["schema"], found["kernels"], found["quick"]) == (1, AVX2, True)
    assert [(row["name"], row["bar"], row["held"]) for row in found["rows"]] == [
        ("bytes-up", 150, True), ("bytes-down", 75, None),
    ]  # fmt: skip
    assert found["rows"][0]["figure"]["value"] == 100.0
    assert found["rows"][1]["figure"]["skipped"] == "no plan"


def test_the_script_measures_what_is_asked_for() -> None:
    script = Path(__file__).parents[2] / "harness" / "engine_bars.py"
    command = [sys.executable, str(script), "--quick", "--only", "ntt-2048", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = json.loads(ran.stdout)["rows"]
    assert row["name"] == "ntt-2048"
    assert row["figure"]["least"] <= row["figure"]["value"] <= row["figure"]["most"]
    assert row["figure"]["rounds"] >= 3
    unknown = CliRunner().invoke(table.main, ["--only", "speed"])
    assert unknown.exit_code == 2
    assert "There is no bar 'speed'" in unknown.output


def test_context_rows_fit_a_terminal_and_say_what_is_missing() -> None:
    about: dict[str, Any] = {"module": "4096:4096:16", "tokens": 2048}
    measured = context.Row(
        **about, backend="tenseal", packing="cheetah_two_round", client_up_ms=123.4, server_ms=12345.6,
        client_down_ms=0.0123, tokens_per_s=0.0123, bytes_up=1234567.0, bytes_down=23456789.0, bytes_keys=520000000,
        bits=23.4,
    )  # fmt: skip
    refused = context.Row(
        **about, backend="rns", packing="halevi_shoup", skipped="a run is predicted to take 99 s " * 4
    )
    plain = context.Row(**about, backend="numpy, in the clear", server_ms=0.01, tokens_per_s=1e5)
    printed = list(context.lines([plain, measured, refused]))
    assert all(len(line) <= 80 for line in printed)
    assert any("halevi_shoup on rns is not run: a run is predicted" in line for line in printed)
    assert len(context.cells(quick=False)) == 16
