"""The rows of a report, held against the run that they are about."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.adapter.synthetic import synthetic_activations
from helora_core.errors import PrecisionLost
from helora_core.execution.constants import encode_constants
from helora_core.parties.adapter_run import ModuleJob, ModuleResult
from helora_core.parties.module_run import ModuleRun, run_module
from helora_core.parties.report import require_precision, result_row
from helora_core.parties.request_report import Report
from helora_core.parties.result import Result


@pytest.fixture
def outcome(numpy_backend: Any, make_bench: Any) -> ModuleResult:
    bench = make_bench(numpy_backend)
    x = synthetic_activations(bench.plan.shape, 5, seed=0)
    constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
    run = run_module(bench.plan, constants, bench.client, bench.server, x)
    return result_of(ModuleJob(bench.module, x.astype(np.float32), bench.plan), run)


def result_of(job: ModuleJob, run: ModuleRun) -> ModuleResult:
    report = Report(
        executed=run.executed, times=run.times, bytes_up=run.bytes_up, bytes_down=run.bytes_down, round_trips=2
    )
    name = job.module.name
    return ModuleResult(job, Result({name: run.delta}, {name: run.error_bound}, report, (name,)), load_ns=3_000_000)


def with_delta(outcome: ModuleResult, delta: Any) -> ModuleResult:
    return replace(outcome, result=msgspec.structs.replace(outcome.result, deltas={outcome.job.module.name: delta}))


class TestRow:
    def test_it_names_the_module_the_backend_and_the_plan(self, outcome: ModuleResult) -> None:
        row = result_row(outcome, backend="numpy", secure=False)
        assert (row["module"], row["backend"], row["secure"]) == ("synthetic", "numpy", False)
        plan = outcome.job.plan.to_dict(tokens=5)
        assert {key: row[key] for key in plan} == plan

    def test_precision_and_error_are_those_of_the_result(self, outcome: ModuleResult) -> None:
        reference = outcome.job.module.reference_delta(outcome.job.x)
        error = np.zeros_like(reference)
        error[3, 7] = -0.25 * np.max(np.abs(reference))
        row = result_row(with_delta(outcome, reference + error), backend="numpy", secure=False)
        assert row["precision_bits"] == pytest.approx(2.0)
        assert row["max_abs_error"] == pytest.approx(0.25 * np.max(np.abs(reference)))

    def test_times_are_per_token_and_counts_are_totals(self, outcome: ModuleResult) -> None:
        row = result_row(outcome, backend="numpy", secure=False)
        times = outcome.report.times
        for name in ("encrypt", "compute", "decrypt"):
            assert row[f"{name}_ms"] == pytest.approx(getattr(times, name) / 5e6)
        assert row["ms_per_token"] == pytest.approx(times.total / 5e6)
        assert row["tokens_per_second"] == pytest.approx(1e3 / row["ms_per_token"])
        assert row["load_ms"] == 3.0
        assert row["executed"] == msgspec.structs.asdict(outcome.job.plan.counts.times(2))
        assert (row["bytes_up"], row["bytes_down"]) == (outcome.report.bytes_up, outcome.report.bytes_down)

    def test_it_is_json(self, outcome: ModuleResult) -> None:
        row = result_row(outcome, backend="numpy", secure=True)
        assert msgspec.json.decode(msgspec.json.encode(row)) == row


class TestRequirePrecision:
    ROWS = tuple(
        {"module": name, "bound_bits": bits, "expected_bits": 13.0, "max_abs_error": None, "error_bound": 1e-3}
        for name, bits in (("q", 20.0), ("v", 12.0))
    )

    def test_enough_bits_everywhere_pass(self) -> None:
        require_precision(self.ROWS, 12.0)
        require_precision((), 60.0)

    def test_every_module_that_falls_short_is_named_with_its_bits_and_what_would_do(self) -> None:
        with pytest.raises(PrecisionLost, match=r"less than 12\.5 bits of Δ: v has 12\.0\.") as caught:
            require_precision(self.ROWS, 12.5)
        assert "--target-bits 14" in caught.value.hint
        assert "--min-bits" in caught.value.hint
        with pytest.raises(PrecisionLost, match=r"q has 20\.0, v has 12\.0"):
            require_precision(self.ROWS, 60)

    def test_an_error_beyond_its_bound_is_no_result(self) -> None:
        row = {**self.ROWS[0], "max_abs_error": 2e-3}
        with pytest.raises(PrecisionLost, match="off by more than the bound") as caught:
            require_precision([row], 0.0)
        assert "conform" in caught.value.hint

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_result_that_is_not_finite_has_no_precision(self, outcome: ModuleResult, value: float) -> None:
        delta = outcome.delta.copy()
        delta[0, 0] = value
        row = result_row(with_delta(outcome, delta), backend="numpy", secure=False)
        with pytest.raises(PrecisionLost):
            require_precision([row], 0.0)

    def test_a_scale_too_small_for_the_noise_is_found(self, numpy_backend: Any, make_bench: Any) -> None:
        from helora_core.params.ckks import CKKSParams

        coarse = CKKSParams(ring_degree=1024, data_bits=(40, 20, 20), special_bits=(40,), scale_bits=20)
        bench = make_bench(numpy_backend, params=coarse)
        x = synthetic_activations(bench.plan.shape, 2, seed=0)
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        run = run_module(bench.plan, constants, bench.client, bench.server, x)
        row = result_row(result_of(ModuleJob(bench.module, x, bench.plan), run), backend="numpy", secure=False)
        with pytest.raises(PrecisionLost, match="synthetic has"):
            require_precision([row], 12.0)
