"""Many tokens through one module: what comes out, what it cost, and that nothing but bytes went between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helora_core.adapter.synthetic import synthetic_activations
from helora_core.errors import LeakageRefused, LedgerMismatch
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import precision_bits
from helora_core.parties.module_run import PhaseTimes, run_module

PACKINGS = ("rank_bsgs", "zero_moai")


def run(bench: Any, x: Any, **options: Any) -> Any:
    constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
    if bench.plan.packing.client_finishes:
        options.setdefault("client_module", bench.module)
    return run_module(bench.plan, constants, bench.client, bench.server, bench.ledger, x, **options)


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
    assert result.executed == bench.plan.counts.times(runs) == bench.ledger.counts()
    assert result.executed.encrypts == runs
    again = run(bench, synthetic_activations(bench.plan.shape, tokens, seed=0))
    assert again.executed == result.executed, "each run counts its own operations only"


@pytest.mark.parametrize("packing", PACKINGS)
def test_bytes_are_those_that_both_sides_sent(
    backend: Any, make_bench: Any, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(backend, "200:90:5", packing)
    sent: dict[str, list[bytes]] = {"client": [], "server": []}
    for side in sent:
        session = getattr(bench, side)
        send = session.send

        def listening(ciphertext: Any, side: str = side, send: Any = send) -> bytes:
            sent[side].append(send(ciphertext))
            return sent[side][-1]

        monkeypatch.setattr(session, "send", listening)
    result = run(bench, synthetic_activations(bench.plan.shape, 3, seed=0))
    assert len(sent["client"]) == result.executed.encrypts
    assert len(sent["server"]) == result.executed.decrypts
    assert all(type(message) is bytes for messages in sent.values() for message in messages)
    assert result.bytes_up == sum(map(len, sent["client"]))
    assert result.bytes_down == sum(map(len, sent["server"]))


def test_no_object_passes_from_one_side_to_the_other(
    numpy_backend: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(numpy_backend)
    sides = {
        "client": (bench.client, ("encrypt", "receive", "decrypt", "send")),
        "server": (bench.server, ("receive", "send")),
        "evaluator": (bench.server.evaluator, ("rotate", "multiply_plain", "add", "rescale")),
    }
    makers: dict[int, tuple[str, Any]] = {}

    def watched(side: str, operation: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            for argument in args:
                made_by, _ = makers.get(id(argument), (side, None))
                assert type(argument) is bytes or made_by == side or "client" not in (made_by, side)
            result = operation(*args, **kwargs)
            makers[id(result)] = (side, result)
            return result

        return call

    for side, (owner, names) in sides.items():
        for name in names:
            monkeypatch.setattr(owner, name, watched(side, getattr(owner, name)))
    run(bench, synthetic_activations(bench.plan.shape, 5, seed=0))
    made = [side for side, _ in makers.values()]
    assert made.count("client") > 4
    assert made.count("evaluator") > 40


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


def test_time_in_a_phase_adds_up() -> None:
    times = PhaseTimes()
    with times.phase("compute"):
        pass
    once = times.compute
    with times.phase("compute"):
        pass
    assert times.compute > once > 0
    assert times.encrypt == times.decrypt == 0


@pytest.mark.parametrize("meddle", ["encrypts", "rotations"])
def test_somebody_elses_operations_in_the_ledger_are_found(numpy_backend: Any, make_bench: Any, meddle: str) -> None:
    bench = make_bench(numpy_backend)

    def meddling(tokens: int) -> None:
        ciphertext = bench.client.encrypt(np.ones(4), scale_bits=36)
        if meddle == "rotations":
            bench.server.evaluator.rotate(ciphertext, bench.plan.rotation_steps[0])

    predicted = getattr(bench.plan.counts, meddle)
    with pytest.raises(LedgerMismatch, match=f"{meddle}: {predicted + 1} executed, {predicted} predicted") as caught:
        run(bench, synthetic_activations(bench.plan.shape, 1, seed=0), on_tokens=meddling)
    assert "shared" in caught.value.hint
    assert "ct_pt" not in caught.value.message, "only what differs is named"


def test_operations_missing_from_the_ledger_are_found(numpy_backend: Any, make_bench: Any) -> None:
    bench = make_bench(numpy_backend)
    with pytest.raises(LedgerMismatch, match="0 executed"):
        run(bench, synthetic_activations(bench.plan.shape, 1, seed=0), on_tokens=lambda tokens: bench.ledger.reset())


def test_a_packing_whose_client_finishes_needs_the_adapter_there(numpy_backend: Any, make_bench: Any) -> None:
    bench = make_bench(numpy_backend, packing="zero_moai")
    with pytest.raises(LeakageRefused):
        run(bench, synthetic_activations(bench.plan.shape, 1, seed=0), client_module=None)
