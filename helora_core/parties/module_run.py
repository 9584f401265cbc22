"""Runs one module on many tokens, client and server apart, with nothing but bytes between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.protocol import Ciphertext
from helora_core.backend.session import ClientSession, ServerSession
from helora_core.compiler.plan import Plan
from helora_core.errors import LedgerMismatch
from helora_core.execution.constants import EncodedConstants
from helora_core.execution.executor import Execution
from helora_core.packing.protocol import Vector
from helora_core.parties.batching import batches
from helora_core.parties.client_run import ClientRun


class PhaseTimes(msgspec.Struct):
    """Wall time per phase, in nanoseconds, summed over all runs. Each message is serialised and read in the phase that
    sends or receives it; no network is involved.

    Attributes:
        encrypt: At the client: pack, encrypt, serialise.
        compute: At the server: read, execute the program, serialise.
        decrypt: At the client: read, decrypt, unpack.
    """

    encrypt: int = 0
    compute: int = 0
    decrypt: int = 0

    @property
    def total(self) -> int:
        """All phases."""
        return self.encrypt + self.compute + self.decrypt

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to one phase."""
        start = time.perf_counter_ns()
        yield
        elapsed = time.perf_counter_ns() - start
        setattr(self, name, getattr(self, name) + elapsed)


class ModuleRun(msgspec.Struct, frozen=True, kw_only=True):
    """What running one module gave.

    Attributes:
        delta: Δ, float64, shape (tokens, d_out).
        error_bound: What no value of a token's Δ is off by more: float64, shape (tokens,). See ``RunResult``.
        times: Wall time per phase.
        bytes_up: Ciphertext bytes that the client sent.
        bytes_down: Ciphertext bytes that it received.
        executed: Operations as the ledger counted them; equal to the plan's prediction.
    """

    delta: Vector
    error_bound: Vector
    times: PhaseTimes
    bytes_up: int
    bytes_down: int
    executed: OperationCounts


def run_module(
    plan: Plan,
    constants: EncodedConstants,
    client: ClientSession,
    server: ServerSession,
    ledger: Ledger,
    x: Vector,
    *,
    client_module: LoRAModule | None = None,
    on_tokens: Callable[[int], object] = lambda tokens: None,
) -> ModuleRun:
    """Run a loaded module on ``x`` (float64, shape (tokens, d_in), checked by ``check_activations``).

    Args:
        plan: Plan for the module's shape.
        constants: Its weights, as ``encode_constants`` encoded them for this plan and server.
        client: The key holder's session.
        server: The session that computes.
        ledger: The ledger that both sessions write to.
        x: Activations.
        client_module: The adapter in the clear, for packings whose client finishes the sum.
        on_tokens: Called with the number of tokens finished after each run, for progress bars.

    Raises:
        LedgerMismatch: What was executed is not what the plan predicted.
    """
    before = ledger.counts()
    plan = plan.with_exponent(constants.exponent)
    link = _Link(server)
    results = []
    for batch in batches(plan, x):
        with link.times.phase("encrypt"):
            run = ClientRun(plan, client, batch, module=client_module)
            upload = link.counted_up(run.messages())
        with link.times.phase("compute"):
            execution = Execution(plan, constants)
            download = link.down(execution.proceed(server, [server.receive(message) for message in upload]))
        while not execution.done:
            with link.times.phase("decrypt"):
                (answer,) = link.counted_up([run.answer(download)])
            with link.times.phase("compute"):
                download = link.down(execution.proceed(server, [server.receive(answer)]))
        with link.times.phase("decrypt"):
            results.append(run.result(download))
        on_tokens(batch.shape[0])
    executed = ledger.counts().minus(before)
    _check_ledger(plan, executed, plan.counts.times(plan.runs(x.shape[0])))
    return ModuleRun(
        delta=np.concatenate([result.delta for result in results]),
        error_bound=np.concatenate([result.error_bound for result in results]),
        times=link.times,
        bytes_up=link.bytes_up,
        bytes_down=link.bytes_down,
        executed=executed,
    )


class _Link:
    """Counts the bytes between both sides and times what each does, in questions of the server as well."""

    def __init__(self, server: ServerSession) -> None:
        self.times = PhaseTimes()
        self.bytes_up = 0
        self.bytes_down = 0
        self._server = server

    def counted_up(self, messages: list[bytes]) -> list[bytes]:
        """From the client."""
        self.bytes_up += sum(map(len, messages))
        return messages

    def down(self, ciphertexts: Sequence[Ciphertext]) -> list[bytes]:
        """From the server."""
        messages = [self._server.send(ciphertext) for ciphertext in ciphertexts]
        self.bytes_down += sum(map(len, messages))
        return messages


def _check_ledger(plan: Plan, executed: OperationCounts, predicted: OperationCounts) -> None:
    if executed == predicted:
        return
    wrong = [
        f"{name}: {getattr(executed, name)} executed, {getattr(predicted, name)} predicted"
        for name in executed.__struct_fields__
        if getattr(executed, name) != getattr(predicted, name)
    ]
    raise LedgerMismatch(
        f"Plan {plan.packing.name} {plan.shape}: {'; '.join(wrong)}.",
        hint="Is the ledger shared with another run? If not, report this: plan and executor disagree.",
    )
