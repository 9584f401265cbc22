"""Reports: what is added up, and what people read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helora_core.backend.ledger import OperationCounts
from helora_core.parties.request_report import PhaseTimes, Report
from helora_core.parties.result import Result
from helora_transformers.report import Meter, worst_bits
from helora_transformers.tiny import adapted, base_model, prompt


def result_of(deltas: Any, bounds: Any) -> Result:
    report = Report(
        executed=OperationCounts(rotations=2, keyswitches=3),
        times=PhaseTimes(encrypt=1, compute=20, decrypt=3),
        bytes_up=5,
        bytes_down=6,
        round_trips=1,
    )
    named = {str(i): np.array(delta, dtype=float) for i, delta in enumerate(deltas)}
    return Result(named, {"all": np.array(bounds, dtype=float)}, report, tuple(named))


def test_bits_are_those_of_the_worst_token_whose_delta_is_not_zero() -> None:
    deltas = [[[1.0, -8.0], [0.0, 0.0], [2.0, 1.0]], [[4.0], [0.0], [-16.0]]]
    assert worst_bits(result_of(deltas, [2.0, 1.0, 0.5])) == 2.0  # 8 / 2, and 16 / 0.5
    assert worst_bits(result_of([[[0.0]]], [1.0])) == math.inf


def test_tokens_are_those_of_the_first_group() -> None:
    meter = Meter(("q", "v"))
    for group in (("q", "v"), ("o",), ("q", "v")):
        meter.request(group, result_of([[[1.0]], [[2.0]]], [0.5]), 100)
    totals = meter.totals()
    assert (totals.tokens, totals.rows, totals.requests) == (2, 3, 3)
    assert totals.link_ns == 3 * (100 - 20)
    assert (totals.executed.rotations, totals.executed.keyswitches) == (6, 9)
    assert meter.totals() is not totals


def test_times_add_up_to_the_passes(tmp_path: Path, private: Any) -> None:
    adapted("llama", tmp_path, targets=["q_proj"])
    model = base_model()
    with private(model) as attached, torch.no_grad():
        model(**prompt(5))
        report = attached.report()
        again = attached.report()
        clock = attached._active.hooks.clock
    assert report == again
    assert math.isclose(report.total_ms, clock.total_ns / 1e6)
    assert min(report.base_ms, report.encrypt_ms, report.compute_ms, report.decrypt_ms, report.hooks_ms) > 0
    assert report.to_dict()["total_ms"] == report.total_ms
    lines = str(report).splitlines()
    assert [line[:18].strip() for line in lines if line[:18].strip()] == [
        "adapter", "tokens", "ms per token", "bytes per token", "operations", "bits", "leakage", "query budget",
    ]  # fmt: skip
    assert "protects nobody" in " ".join(str(report).split())
    assert max(map(len, lines)) <= 80
