"""The forms of a modular product that were measured (ADR 44), on the CPU.

What only a card can show is in ``harness/cuda_check.py``: races, registers, speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helora_cupy import checks, probing, reference, tables
from helora_cupy.device import Shim

ROOT = Path(__file__).parents[3]
LOG_N = 11
THOROUGH = os.environ.get("HELORA_THOROUGH") == "1"


@pytest.fixture(scope="module")
def shim() -> Shim:
    return Shim()


@pytest.mark.parametrize("form", ["fma50", "shoup64", "friendly64", "shoup32"])
def test_a_transform_is_exact_on_every_input_and_prime(shim: Shim, form: str) -> None:
    assert checks.check_ntt(shim, form, LOG_N, kinds=6 if THOROUGH else 3) > 50


@pytest.mark.parametrize("log_n", [13, pytest.param(14, marks=pytest.mark.thorough)])
def test_lengths_of_passes_do_not_matter(shim: Shim, log_n: int) -> None:
    assert checks.check_ntt(shim, "fma50", log_n, kinds=1) >= 12


@pytest.mark.parametrize(("form", "runs"), [("fma50", 1), ("montgomery64", 1)])
def test_a_key_switch_is_exact(shim: Shim, form: str, runs: int) -> None:
    checks.check_keyswitch(shim, form, LOG_N, runs)


def test_products_of_matrices_are_exact(shim: Shim) -> None:
    checks.check_gemm(shim, 40, 200, 20, 3)


def test_the_reference_is_the_value_at_each_root() -> None:
    q, log_n = tables.primes("fma50")[0], 5
    values = [int(v) for v in np.random.default_rng(1).integers(0, q, 1 << log_n)]
    psi = tables.powers(q, log_n)[1 << (log_n - 1)]  # the power whose exponent, reversed, is 1
    at = [pow(psi, 2 * tables.reversed_bits(i, log_n) + 1, q) for i in range(1 << log_n)]
    result = reference.forward(values, q, log_n)
    assert result == [sum(v * pow(x, i, q) for i, v in enumerate(values)) % q for x in at]
    assert reference.inverse(result, q, log_n) == values


def test_the_bounds_of_the_comment_hold() -> None:
    """What arith.cuh says of doubles, worked out once more: multiplied ≤ 4q, sums ≤ 8q, at every length of a pass."""

    def forward(bound: float, stages: int) -> tuple[float, float]:
        multiplied = 0.0
        for _ in range(stages):
            multiplied, bound = bound, bound + 0.5 + bound / 8
        return multiplied, bound

    for start, stages in ((1.0, 4), (0.51, 5)):
        multiplied, bound = forward(start, stages)
        assert multiplied < 4
        assert bound < 8
    assert forward(1.0, 5)[0] > 4  # so a first pass of five stages has to reduce


def test_a_wrong_kernel_is_noticed(shim: Shim) -> None:
    right = shim.launch

    def off_by_one(*args: object) -> None:
        right(*args)
        args[4][1].reshape(-1)[-1] ^= np.uint64(1)

    shim.launch = off_by_one
    try:
        with pytest.raises(AssertionError, match=r"1 of \d+ differ"):
            checks.check_ntt(shim, "fma50", LOG_N, (3,), kinds=1)
    finally:
        shim.launch = right


def test_without_a_card_the_script_says_why(tmp_path: Path) -> None:
    reason = probing.card().reason
    if reason is None:
        pytest.skip("there is a card")
    command = [sys.executable, str(ROOT / "harness" / "cuda_check.py"), "--out", str(tmp_path / "out")]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 2
    assert reason in child.stderr
    assert not (tmp_path / "out").exists()


def test_the_table_of_the_decision_is_the_committed_measurement() -> None:
    data = (ROOT / "harness/history/cuda/h100-2026-11-27.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in data.splitlines()]
    text = (ROOT / "docs/adr/0044-products-on-a-gpu.md").read_text(encoding="utf-8")
    cells = {(r["form"], r["direction"], r["n"]): r for r in rows if r["op"] == "ntt" and r["batch"] == 4096}
    columns = [("forward", 2048), ("forward", 4096), ("forward", 8192), ("inverse", 8192), ("forward", 16384)]
    for form in tables.FORMS:
        shown = [cells[(form, *column)] for column in columns]
        assert " | ".join(f"{r['us_per_limb']:.3g}, {100 * r['share']:.0f} %" for r in shown) in text, form
    assert {"card", "driver", "cuda", "cupy", "date", "commit", "command"} <= rows[0].keys()
