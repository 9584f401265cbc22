"""Runs many modules of an adapter on one backend, sharing keys among equal parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ClientSession, ServerSession, open_sessions
from helora_core.compiler.plan import Plan
from helora_core.compiler.requirements import require_capabilities
from helora_core.execution.constants import ConstantCache, Weights
from helora_core.execution.telemetry import Telemetry
from helora_core.params.ckks import CKKSParams
from helora_core.parties.batching import check_activations
from helora_core.parties.module_run import ModuleRun, run_module
from helora_core.privacy.policy import require_private_weights


@dataclass(frozen=True)
class Work:
    """One module, the activations to run it on (shape (tokens, d_in), any real dtype), and the plan to run it by.

    Attributes:
        parts: Names and d_out of the modules that it is stacked of, in the order of their outputs; empty for one alone.
    """

    module: Weights
    x: NDArray[Any]
    plan: Plan
    parts: tuple[tuple[str, int], ...] = ()

    def deltas(self, delta: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Δ of each part by its name, from that of all."""
        parts = self.parts or ((self.module.name, self.module.shape.d_out),)
        ends = list(accumulate(d_out for _, d_out in parts))
        return {name: delta[:, end - d_out : end] for (name, d_out), end in zip(parts, ends, strict=True)}


@dataclass(frozen=True)
class Outcome:
    """What became of one piece of work.

    Attributes:
        work: Module, activations and plan.
        run: Δ, times, bytes and the executed ledger.
        load_ns: Time to encode the module's weights, once for all tokens.
    """

    work: Work
    run: ModuleRun
    load_ns: int


@dataclass(frozen=True)
class _Keys:
    client: ClientSession
    server: ServerSession
    ledger: Ledger


def run_adapter(
    backend: Backend,
    work: Sequence[Work],
    *,
    private_weights: bool = True,
    telemetry: Telemetry | None = None,
    cache: ConstantCache | None = None,
    on_tokens: Callable[[int], object] = lambda tokens: None,
) -> Iterator[Outcome]:
    """Run every module of ``work`` and yield its result as soon as it is there.

    Everything is checked before the first key is made. Plans with equal parameters share one key set, made for the
    union of their rotation steps.

    Args:
        backend: The CKKS library.
        work: Modules with their activations and plans.
        private_weights: Refuse plans that show weights to the key holder; False where it owns the adapter.
        telemetry: Told of each module executed.
        cache: Keeps encoded weights for modules that come again; a fresh one if None.
        on_tokens: Called with the tokens finished after each run.

    Raises:
        LeakageRefused: A plan shows weights, and they are to be private.
        InvalidInput: Activations that a module cannot take.
        CapabilityMissing, InsecureParameters, LedgerMismatch, …: As the steps raise them.
    """
    telemetry = Telemetry() if telemetry is None else telemetry
    cache = ConstantCache() if cache is None else cache
    activations = [check_activations(job.x, job.module.shape, who=job.module.name) for job in work]
    plans = list({id(job.plan): job.plan for job in work}.values())
    for plan in plans:
        if private_weights:
            require_private_weights(plan.packing.name, plan.packing.leakage, sanitize_bits=plan.sanitize_bits)
        require_capabilities(backend, plan)
    keys: dict[CKKSParams, _Keys] = {}
    for job, x in zip(work, activations, strict=True):
        plan = job.plan
        if plan.params not in keys:
            keys[plan.params] = _open(backend, [each for each in plans if each.params == plan.params])
        held = keys[plan.params]
        start = time.perf_counter_ns()
        constants = cache.constants(plan, job.module, held.server.encoder)
        load_ns = time.perf_counter_ns() - start
        owner = job.module if plan.packing.client_finishes and isinstance(job.module, LoRAModule) else None
        run = run_module(
            plan, constants, held.client, held.server, held.ledger, x, client_module=owner, on_tokens=on_tokens
        )
        _tell(telemetry, backend, job, run)
        yield Outcome(job, run, load_ns)


def _tell(telemetry: Telemetry, backend: Backend, job: Work, run: ModuleRun) -> None:
    telemetry.emit(
        "module.executed",
        run.times.total,
        backend=backend.name,
        module=job.module.name,
        packing=job.plan.packing.name,
        plan=job.plan.digest,
        tokens=run.delta.shape[0],
        keyswitches=run.executed.keyswitches,
        bytes_up=run.bytes_up,
        bytes_down=run.bytes_down,
    )


def _open(backend: Backend, sharing: Sequence[Plan]) -> _Keys:
    """Sessions for plans of one parameter set: keys for all their steps, at the strictest level asked of any."""
    ledger = Ledger()
    client, server = open_sessions(
        backend,
        sharing[0].params,
        {step for plan in sharing for step in plan.rotation_steps},
        ledger=ledger,
        security_bits=max(plan.verdict.asked_bits for plan in sharing),
        table=sharing[0].verdict.table,
        public_key=any(plan.needs_public_key for plan in sharing),
    )
    return _Keys(client, server, ledger)
