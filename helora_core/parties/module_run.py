"""Runs one module on sessions that are already open.

``Client`` and ``Server`` do the same with messages and full checks; all other code goes through them. Two kinds
of users cannot: tests and benchmarks of packings and backends under small, insecure parameters, which a client refuses
under all options; and the harness, which times the library's work on a plan without the sealing of messages, so that
its rows compare with those of commits from before messages existed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.ledger import InnerCounts, Ledger, OperationCounts
from helora_core.backend.session import ClientSession, ServerSession
from helora_core.compiler.plan import Plan
from helora_core.execution.constants import EncodedConstants
from helora_core.execution.executor import Execution
from helora_core.execution.ledger_check import require_counts
from helora_core.packing.protocol import Vector
from helora_core.parties.batching import batches
from helora_core.parties.client_run import ClientRun
from helora_core.parties.request_report import PhaseTimes


class ModuleRun(msgspec.Struct, frozen=True, kw_only=True):
    """The result of running one module.

    Attributes:
        delta: Δ, float64, shape (tokens, d_out).
        error_bound: Bound on the error of every value of a token's Δ: float64, shape (tokens,). See ``RunResult``.
        times: Wall time per phase.
        bytes_up: Ciphertext bytes that the client sent.
        bytes_down: Ciphertext bytes that it received.
        executed: Operations as the ledger counted them; equal to the plan's prediction.
        inner: What whole programs took inside, if the library says.
    """

    delta: Vector
    error_bound: Vector
    times: PhaseTimes
    bytes_up: int
    bytes_down: int
    executed: OperationCounts
    inner: InnerCounts


def run_module(
    plan: Plan,
    constants: EncodedConstants,
    client: ClientSession,
    server: ServerSession,
    x: Vector,
    *,
    ledger: Ledger | None = None,
    client_module: LoRAModule | None = None,
    on_tokens: Callable[[int], object] = lambda tokens: None,
) -> ModuleRun:
    """Run a loaded module on ``x`` (float64, shape (tokens, d_in), checked by ``check_activations``).

    Args:
        plan: Plan for the module's shape.
        constants: The module's weights, as ``encode_constants`` encoded them for this plan.
        client: The key holder's session.
        server: The session that computes.
        x: Activations.
        ledger: The ledger that both sessions write to; a new one for this call if None.
        client_module: The adapter in the clear, for packings whose client finishes the sum.
        on_tokens: Called with the number of tokens finished after each run, for progress bars.

    Raises:
        LedgerMismatch: The operations executed are not those that the plan predicted.
    """
    times = PhaseTimes()
    if ledger is None:
        ledger = Ledger()
        client, server = client.with_ledger(ledger), server.with_ledger(ledger)
    before, inner_before = ledger.counts(), ledger.inner()
    plan = plan.with_exponent(constants.exponent)
    results, bytes_up, bytes_down = [], 0, 0
    download: list[bytes] = []
    for batch in batches(plan, x):
        execution = Execution(plan, constants)
        with _timed(times, "encrypt"):
            run = ClientRun(plan, batch, module=client_module)
            upload = run.inputs(client)
        for number in range(len(plan.rounds)):
            if number:
                with _timed(times, "decrypt"):
                    upload = [run.answer(client, number, download)]
            bytes_up += sum(map(len, upload))
            with _timed(times, "compute"):
                outputs = execution.proceed(server, [server.deserialize(payload) for payload in upload])
                download = [server.serialize(output) for output in outputs]
            bytes_down += sum(map(len, download))
        with _timed(times, "decrypt"):
            results.append(run.result(client, download))
        on_tokens(batch.shape[0])
    executed = ledger.counts().minus(before)
    require_counts("the run", executed, plan.counts.times(plan.runs(x.shape[0])))
    return ModuleRun(
        delta=np.concatenate([result.delta for result in results]),
        error_bound=np.concatenate([result.error_bound for result in results]),
        times=times,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        executed=executed,
        inner=ledger.inner().minus(inner_before),
    )


@contextmanager
def _timed(times: PhaseTimes, phase: str) -> Iterator[None]:
    start = time.perf_counter_ns()
    yield
    setattr(times, phase, getattr(times, phase) + time.perf_counter_ns() - start)
