"""Many tokens through one module on sessions at hand: what comes out, and what it cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helora_core.adapter.synthetic import synthetic_activations
from helora_core.errors import LeakageRefused
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import precision_bits
from helora_core.parties.module_run import run_module

PACKINGS = ("rank_bsgs", "zero_moai")


def run(bench: Any, x: Any, **options: Any) -> Any:
    constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
    if bench.plan.packing.client_finishes:
        options.setdefault("client_module", bench.module)
    return run_module(bench.plan, constants, bench.client, bench.server, x, **options)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("tokens", [1, 4, 9])
def test_tokens_come_out_in_order_whatever_their_number(
    backend: Any, make_bench: Any, packing: str, tokens: int
) -> None:
    """rank_bsgs takes four tokens a run here, zero_moai one: full runs, partial ones, several."""
    bench = make_bench(backend, packing=packing)
    assert bench.plan.tokens_per_run == (4 if packing == "rank_bsgs" else 1)
    x = synthetic_activations(bench.plan.shape, tokens, seed=3)
    result = run(bench, x)
    reference = bench.module.reference_delta(x)
    assert result.delta.shape == reference.shape
    assert result.delta.dtype == np.float64
    for found, expected in zip(result.delta, reference, strict=True):
        assert precision_bits(found, expected) > 12


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("tokens", [1, 4, 5, 9])
def test_the_ledger_shows_the_plans_counts_times_the_runs(
    numpy_backend: Any, make_bench: Any, packing: str, tokens: int
) -> None:
    bench = make_bench(numpy_backend, packing=packing)
    result = run(bench, synthetic_activations(bench.plan.shape, tokens, seed=0))
    runs = -(-tokens // bench.plan.tokens_per_run)
    assert result.executed == bench.plan.counts.times(runs)
    assert result.executed.encrypts == runs
    again = run(bench, synthetic_activations(bench.plan.shape, tokens, seed=0))
    assert again.executed == result.executed, "each run counts its own operations only"


def test_progress_is_told_after_each_run(numpy_backend: Any, make_bench: Any) -> None:
    bench = make_bench(numpy_backend)
    told: list[int] = []
    run(bench, synthetic_activations(bench.plan.shape, 9, seed=0), on_tokens=told.append)
    assert told == [4, 4, 1]


def test_every_phase_is_timed_and_their_sum_is_the_total(numpy_backend: Any, make_bench: Any) -> None:
    bench = make_bench(numpy_backend)
    times = run(bench, synthetic_activations(bench.plan.shape, 2, seed=0)).times
    assert min(times.encrypt, times.compute, times.decrypt) > 0
    assert times.total == times.encrypt + times.compute + times.decrypt


def test_a_packing_whose_client_finishes_needs_the_adapter_there(numpy_backend: Any, make_bench: Any) -> None:
    bench = make_bench(numpy_backend, packing="zero_moai")
    with pytest.raises(LeakageRefused):
        run(bench, synthetic_activations(bench.plan.shape, 1, seed=0), client_module=None)
