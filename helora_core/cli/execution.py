"""Shared by ``helora run`` and ``helora demo``: runs the work with a progress bar, and reports rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from helora_core.adapter.lora import LoRAModule
    from helora_core.cli.options import Execution
    from helora_core.parties.adapter_run import ModuleJob, ModuleResult
    from helora_core.planning.selection import PassedOver


def run_work(
    modules: Sequence[LoRAModule],
    activations: Mapping[str, NDArray[Any]],
    execution: Execution,
    tokens: tuple[int, ...] = (),
) -> tuple[list[ModuleResult], dict[str, Any]]:
    """Compile, choose the backend, run with a progress bar, and report.

    Args:
        modules: The modules to run.
        activations: For each module's name, tokens × d_in.
        execution: The options.
        tokens: Tokens to run together, which plans are chosen for; all of them if none.

    Returns:
        The results, and the JSON document ``{"backend", "secure", "modules"}``.
    """
    from helora_core.adapter.sharing import shared_inputs
    from helora_core.cli.output import working
    from helora_core.compiler.compiled import by_name
    from helora_core.parties.adapter_run import ModuleJob
    from helora_core.parties.compile import Asked, compiled_modules

    inputs = [(module, activations[module.name]) for module in modules]
    groups = shared_inputs(inputs) if execution.share else [((module,), x) for module, x in inputs]
    asked = [Asked.of(parts, **execution.wishes(tokens or (x.shape[0],))) for parts, x in groups]
    with working("compiling plans"):
        compiled, backend, over = compiled_modules(asked)
    versions = iter(by_name(compiled).values())
    work = [ModuleJob.of(next(versions), x) for _, x in groups]
    return run_plans(work, replace(execution, backend=backend), over)


def run_plans(
    work: Sequence[ModuleJob], execution: Execution, passed_over: PassedOver = ()
) -> tuple[list[ModuleResult], dict[str, Any]]:
    """Choose the backend for compiled modules, run with a progress bar, and report as ``run_work`` does.

    Raises:
        BudgetExceeded: The tokens cost more than allowed, by the plans before the run or by the
            ledger and the bytes sent after it.
    """
    from helora_core.cli.output import tell_selection, token_progress
    from helora_core.execution.telemetry import Telemetry
    from helora_core.host.manager import get_manager
    from helora_core.parties.adapter_run import run_adapter
    from helora_core.parties.report import require_budget, result_row
    from helora_core.planning.selection import select_backend

    manager = get_manager()
    for job in work:
        job.chosen.check_budget(job.x.shape[0], execution.constraints.budget)
    selection = select_backend(
        manager,
        execution.backend,
        plans=[plan for job in work for plan in job.plans],
        allow_emulation=execution.allow_emulation,
        passed_over=passed_over,
    )
    tell_selection(selection)
    backend, secure, library = selection.name, selection.secure, manager.load_backend(selection.name)
    prepared = sum(job.x.shape[0] for job in work if job.chosen.correlation)
    with token_progress(prepared + sum(job.x.shape[0] for job in work)) as advance:
        telemetry = Telemetry(manager.telemetry_sinks())
        results = list(
            run_adapter(
                library,
                work,
                private_weights=execution.constraints.private_weights,
                assume=execution.constraints.assume,
                telemetry=telemetry,
                on_tokens=advance,
                on_correlations=_Steps(advance),
            )
        )
    require_budget(results, execution.constraints.budget)
    rows = [result_row(result, backend=backend, secure=secure) for result in results]
    return results, {"backend": backend, "secure": secure, "modules": rows}


class _Steps:
    """Advances a bar by what is done in all, module after module."""

    def __init__(self, advance: Callable[[float], object]) -> None:
        self._advance, self._done = advance, 0.0

    def __call__(self, done: float) -> None:
        self._advance(done - self._done if done >= self._done else done)
        self._done = done
