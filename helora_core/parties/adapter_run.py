"""Both parties in one process: many modules with their activations, run one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.checked_backend import CheckedBackend
from helora_core.backend.protocol import Backend
from helora_core.compiler.compiled import CompiledModule, Part, Weights, cheapest_for, split
from helora_core.compiler.plan import Plan
from helora_core.execution.constants import ConstantCache
from helora_core.execution.telemetry import Telemetry
from helora_core.packing.protocol import Vector
from helora_core.parties.batching import check_activations
from helora_core.parties.client import Client
from helora_core.parties.request_report import Report
from helora_core.parties.result import Result
from helora_core.parties.server import Server
from helora_core.parties.session import Session
from helora_core.privacy.leakage import Assumption


@dataclass(frozen=True)
class ModuleJob:
    """One module, the activations to run it on (shape (tokens, d_in), any real dtype), and the plan to run it by.

    Attributes:
        parts: Names and d_out of the modules that it is stacked of, in the order of their outputs; empty for one alone.
        others: The same module with other plans of equal parameters; the tokens run by the cheapest of all.
    """

    module: Weights
    x: NDArray[Any]
    plan: Plan
    parts: tuple[Part, ...] = ()
    others: tuple[CompiledModule, ...] = ()

    @classmethod
    def of(cls, versions: Sequence[CompiledModule], x: NDArray[Any]) -> ModuleJob:
        """A job for a compiled module with one or more plans."""
        first, *others = versions
        return cls(first.module, x, first.plan, first.parts, tuple(others))

    @property
    def plans(self) -> tuple[Plan, ...]:
        """All of its plans."""
        return (self.plan, *(each.plan for each in self.others))

    @property
    def chosen(self) -> Plan:
        """The plan that is cheapest for its tokens."""
        return cheapest_for(self.plans, self.x.shape[0])

    @property
    def compiled(self) -> CompiledModule:
        """The module as a server serves it, with the first plan."""
        parts = (Part(name=self.module.name, d_out=self.module.shape.d_out),)
        plan = self.plan.for_module(self.module) if isinstance(self.module, LoRAModule) else self.plan
        exponent = plan.exponent if isinstance(self.module, LoRAModule) else self.module.exponent
        return CompiledModule(self.module, parts, plan.with_exponent(exponent or 0))


@dataclass(frozen=True)
class ModuleResult:
    """The result of one job.

    Attributes:
        job: Module, activations and plan.
        result: Δ, the bound on its error, and the report.
        load_ns: Time to encode the module's weights, once for all tokens.
        ahead: What was done ahead of time; None if everything ran online.
    """

    job: ModuleJob
    result: Result
    load_ns: int
    ahead: Report | None = None

    @property
    def delta(self) -> Vector:
        """Δ, float64, shape (tokens, d_out)."""
        return self.result.delta

    @property
    def deltas(self) -> dict[str, Vector]:
        """Δ of each part, by its name."""
        return split(self.delta, self.job.parts) if self.job.parts else {self.job.module.name: self.delta}

    @property
    def error_bound(self) -> Vector:
        """Bound on the error of every value of a token's Δ: float64, shape (tokens,)."""
        (bound,) = self.result.error_bounds.values()
        return bound

    @property
    def report(self) -> Report:
        """Operations, times and bytes of the run."""
        return self.result.report


def run_adapter(
    backend: Backend | CheckedBackend,
    jobs: Sequence[ModuleJob],
    *,
    private_weights: bool = True,
    assume: Collection[Assumption] = (),
    telemetry: Telemetry | None = None,
    constants: ConstantCache | None = None,
    on_tokens: Callable[[int], object] = lambda tokens: None,
    on_correlations: Callable[[float], object] = lambda correlations: None,
) -> Iterator[ModuleResult]:
    """Run every job through a server and a client of its own, and yield its result as soon as it is ready.

    Everything is checked before the first key is made. Plans with equal parameters share one key set, made for the
    union of their rotation steps.

    Args:
        backend: The CKKS library.
        jobs: Modules with their activations and plans.
        private_weights: Refuse plans that show weights to the key holder; False if the key holder owns the adapter.
        assume: Assumptions that the adapter's owner accepts.
        telemetry: Told of each module executed.
        constants: Cache of encoded weights for modules that are run again; a new one if None.
        on_tokens: Called with the tokens finished after each run.
        on_correlations: Called with the correlations of a module that are ready, as ``Client.prepare`` calls it.

    Raises:
        LeakageRefused: A plan shows weights that must stay private, or assumes what is not accepted.
        InvalidInput: The activations do not fit a module.
        CapabilityMissing, InsecureParameters, LedgerMismatch, …: As the steps raise them.
    """
    if not jobs:
        return
    telemetry = Telemetry() if telemetry is None else telemetry
    activations = [check_activations(job.x, job.module.shape, who=job.module.name) for job in jobs]
    names: list[str] = []
    served: dict[str, tuple[CompiledModule, ...]] = {}
    for job in jobs:
        versions = (job.compiled, *job.others)
        same = (name for name, each in served.items() if _alike(each, versions))
        name = next(same, None) or _free_name(versions[0].name, served)
        part = Part(name=name, d_out=job.plan.shape.d_out)
        served.setdefault(name, tuple(replace(each, parts=(part,)) for each in versions))
        names.append(name)
    server = Server(served, backend, private_weights=private_weights, assume=assume, constants=constants)
    verdicts = [job.plan.verdict for job in jobs]
    client = Client(
        server.offer(),
        backend=backend,
        adapter={name: each[0].module for name, each in served.items() if isinstance(each[0].module, LoRAModule)},
        security_bits=min(verdict.asked_bits for verdict in verdicts),
        table=verdicts[0].table,
        load_packing={plan.packing.name: plan.packing for job in jobs for plan in job.plans}.__getitem__,
    )
    session = server.open(client.evaluation_keys())
    for name, job, x in zip(names, jobs, activations, strict=True):
        start = time.perf_counter_ns()
        ahead, tokens = None, job.chosen.tokens_per_run
        if job.chosen.correlation is None:
            server.served.weights(name, job.chosen.digest)
            load_ns = time.perf_counter_ns() - start
        else:
            server.served.factors(name, job.chosen.digest)
            load_ns = time.perf_counter_ns() - start
            ahead = _prepared(client, session, name, len(x), on_correlations)
            tokens = min(tokens, server.limits.tokens)
        result = client.run(name, x, session, tokens=tokens, on_tokens=on_tokens)
        _tell(telemetry, backend, job, result.report, x.shape[0])
        yield ModuleResult(job, result, load_ns, ahead)


def _prepared(
    client: Client, session: Session, name: str, correlations: int, on_correlations: Callable[[float], object]
) -> Report:
    preparation = client.prepare(name, correlations, on_correlations=on_correlations)
    while not preparation.done:
        preparation.receive(session.answer(preparation.message()))
    return preparation.report


def _alike(left: Sequence[CompiledModule], right: Sequence[CompiledModule]) -> bool:
    return [(id(each.module), each.plan.digest) for each in left] == [
        (id(each.module), each.plan.digest) for each in right
    ]


def _free_name(name: str, taken: Container[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free


def _tell(telemetry: Telemetry, backend: Backend | CheckedBackend, job: ModuleJob, report: Report, tokens: int) -> None:
    telemetry.emit(
        "module.executed",
        report.times.total,
        backend=backend.name,
        module=job.module.name,
        packing=job.chosen.packing.name,
        plan=job.chosen.digest,
        tokens=tokens,
        keyswitches=report.executed.keyswitches,
        **msgspec.structs.asdict(report.inner),
        bytes_up=report.bytes_up,
        bytes_down=report.bytes_down,
    )
