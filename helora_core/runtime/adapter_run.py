"""Runs many modules of an adapter on one backend, sharing plans among equal shapes and keys among equal parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.encodings import can_encode
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ClientSession, ServerSession, open_sessions
from helora_core.compiler.plan import Plan
from helora_core.errors import CapabilityMissing
from helora_core.params.ckks import CKKSParams
from helora_core.runtime.batching import check_activations
from helora_core.runtime.constants import encode_constants
from helora_core.runtime.module_run import ModuleRun, run_module
from helora_core.runtime.telemetry import Telemetry


@dataclass(frozen=True)
class Work:
    """One module and the activations to run it on (shape (tokens, d_in), any real dtype)."""

    module: LoRAModule
    x: NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one piece of work.

    Attributes:
        work: Module and activations.
        plan: The plan that ran.
        run: Δ, times, bytes and the executed ledger.
        load_ns: Time to encode the module's weights, once for all tokens.
    """

    work: Work
    plan: Plan
    run: ModuleRun
    load_ns: int


@dataclass(frozen=True)
class _Keys:
    client: ClientSession
    server: ServerSession
    ledger: Ledger


def require_capabilities(backend: Backend, plan: Plan) -> None:
    """Check that the backend can do what the plan needs.

    Raises:
        CapabilityMissing: Names the ability that is missing.
    """
    abilities = backend.capabilities
    missing = []
    for encoding in {plan.program.encoding} | {spec.encoding for spec in plan.constant_specs.values()}:
        if not can_encode(encoding, abilities):
            missing.append(f"an encoding of {encoding.value.replace('_', ' ')}")
    own_scales = any(spec.scale_bits != plan.params.scale_bits for spec in plan.constant_specs.values())
    if own_scales and not abilities.free_plaintext_scale:
        missing.append("plaintext scales of their own")
    if missing:
        raise CapabilityMissing(
            f"Backend {backend.name} lacks {', '.join(missing)}, which plan {plan.packing.name} {plan.shape} needs.",
            hint="Choose another backend; `helora backends` lists what each can do.",
        )


def run_adapter(
    backend: Backend,
    plans: Mapping[ModuleShape, Plan],
    work: Sequence[Work],
    *,
    telemetry: Telemetry | None = None,
    on_tokens: Callable[[int], object] = lambda tokens: None,
) -> Iterator[Outcome]:
    """Run every module of ``work`` and yield its result as soon as it is there.

    Everything is checked before the first key is made. Plans with equal parameters share one key set, made for the
    union of their rotation steps.

    Args:
        backend: The CKKS library.
        plans: A plan for every shape in ``work``.
        work: Modules with their activations.
        telemetry: Told of each module executed.
        on_tokens: Called with the tokens finished after each run.

    Raises:
        InvalidInput: Activations that a module cannot take.
        CapabilityMissing, InsecureParameters, LedgerMismatch, …: As the steps raise them.
    """
    telemetry = Telemetry() if telemetry is None else telemetry
    activations = [check_activations(job.x, job.module.shape, who=job.module.name) for job in work]
    for plan in plans.values():
        require_capabilities(backend, plan)
    keys: dict[CKKSParams, _Keys] = {}
    for job, x in zip(work, activations, strict=True):
        plan = plans[job.module.shape]
        if plan.params not in keys:
            keys[plan.params] = _open(backend, plan.params, plans)
        held = keys[plan.params]
        start = time.perf_counter_ns()
        constants = encode_constants(plan, job.module, held.server)
        load_ns = time.perf_counter_ns() - start
        owner = job.module if plan.packing.client_finishes else None
        run = run_module(
            plan, constants, held.client, held.server, held.ledger, x, client_module=owner, on_tokens=on_tokens
        )
        _tell(telemetry, backend, job.module, plan, run)
        yield Outcome(job, plan, run, load_ns)


def _tell(telemetry: Telemetry, backend: Backend, module: LoRAModule, plan: Plan, run: ModuleRun) -> None:
    telemetry.emit(
        "module.executed",
        run.times.total,
        backend=backend.name,
        module=module.name,
        packing=plan.packing.name,
        plan=plan.digest,
        tokens=run.delta.shape[0],
        keyswitches=run.executed.keyswitches,
        bytes_up=run.bytes_up,
        bytes_down=run.bytes_down,
    )


def _open(backend: Backend, params: CKKSParams, plans: Mapping[ModuleShape, Plan]) -> _Keys:
    sharing = [plan for plan in plans.values() if plan.params == params]
    steps = {step for plan in sharing for step in plan.rotation_steps}
    # The strictest level and the table that any of the plans was compiled for.
    security_bits = max(plan.verdict.asked_bits for plan in sharing)
    ledger = Ledger()
    client, server = open_sessions(
        backend, params, steps, ledger=ledger, security_bits=security_bits, table=sharing[0].verdict.table
    )
    return _Keys(client, server, ledger)
