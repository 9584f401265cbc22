"""Shared by ``helora run`` and ``helora demo``: runs the work with a progress bar, and shows the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

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
    from helora_core.compiler.compiled import by_name
    from helora_core.parties.adapter_run import ModuleJob
    from helora_core.parties.compile import Asked, compiled_modules

    inputs = [(module, activations[module.name]) for module in modules]
    groups = shared_inputs(inputs) if execution.share else [((module,), x) for module, x in inputs]
    asked = [Asked.of(parts, **execution.wishes(tokens or (x.shape[0],))) for parts, x in groups]
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


def show(results: list[ModuleResult], document: dict[str, Any]) -> None:
    """Print the rows as a table, with a total, and warnings about what the run does not protect."""
    from helora_core.cli.output import print_table

    rows = document["modules"]
    numbers = ("tok/run", "rot/tok", "ks/tok", "resc/tok", "pack+enc", "compute", "dec+unp", "ms/tok", "tok/s", "bits",
               "up", "down")  # fmt: skip
    columns = ("module", "shape", "packing", *numbers, "leakage")
    print_table(columns, [*map(_cells, rows), _total(rows)], numbers=numbers, footer=True, spare=_SPARE)
    click.echo("pack+enc, compute, dec+unp: ms per token; bits: −log2(max|error| / max|Δ|); up, down: bytes per token")
    if any(row["ahead"] for row in rows):
        click.echo(_ahead(rows))
    warn_of(results, document)


_SPARE = ("resc/tok", "ks/tok", "tok/s", "packing", "rot/tok", "tok/run", "leakage", "shape", "pack+enc", "dec+unp",
          "compute")  # fmt: skip


def warn_of(results: list[ModuleResult], document: dict[str, Any]) -> None:
    """Print to standard error which Δ are zero, and what the run does not protect, if anything."""
    from helora_core.cli.output import tell_zeros, warn_of_security

    tell_zeros([row["module"] for row in document["modules"] if row["is_zero"]])
    warn_of_security(
        [plan for result in results for plan in result.job.plans],
        backend=document["backend"],
        secure=document["secure"],
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    from helora_core.cli.output import amount, seconds, size

    return (
        row["module"],
        f"{row['d_in']}:{row['d_out']}:{row['rank']}",
        row["packing"],
        str(row["tokens_per_run"]),
        amount(row["rotations_per_token"]),
        amount(row["keyswitches_per_token"]),
        amount(row["rescales_per_token"]),
        seconds(row["encrypt_ms"]),
        seconds(row["compute_ms"]),
        seconds(row["decrypt_ms"]),
        seconds(row["ms_per_token"]),
        amount(row["tokens_per_second"]),
        _bits(row),
        size(row["bytes_up"] / row["tokens"]),
        size(row["bytes_down"] / row["tokens"]),
        row["leakage_label"],
    )


def _ahead(rows: list[dict[str, Any]]) -> str:
    """What was done ahead of time, in a line."""
    from helora_core.cli.output import seconds, size

    done = [row["ahead"] for row in rows if row["ahead"]]
    milliseconds, up, down = (sum(each[key] for each in done) for key in ("ms", "bytes_up", "bytes_down"))
    return (
        f"ahead of time, for {len(done)} modules: {seconds(milliseconds)} ms, {size(up)} up, {size(down)} down; one "
        "batch makes as many correlations as the ring has coefficients, used or not"
    )


def _least_bits(row: dict[str, Any]) -> float:
    measured = row["precision_bits"]
    return float(row["bound_bits"] if measured is None else measured)


def _bits(row: dict[str, Any]) -> str:
    """Measured bits; without the adapter, in brackets, the bits that the bound on the error leaves."""
    measured = row["precision_bits"]
    return f"({row['bound_bits']:.1f})" if measured is None else f"{measured:.1f}"


def _total(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """One token through every module: costs added up, the worst precision."""
    from helora_core.cli.output import amount, seconds, size

    def added(key: str) -> float:
        return float(sum(row[key] for row in rows))

    return (
        f"all {len(rows)}",
        "",
        "",
        "",
        *(amount(added(key)) for key in ("rotations_per_token", "keyswitches_per_token", "rescales_per_token")),
        *(seconds(added(key)) for key in ("encrypt_ms", "compute_ms", "decrypt_ms", "ms_per_token")),
        amount(1e3 / added("ms_per_token")),
        "≥ " + _bits(min(rows, key=_least_bits)),
        *(size(sum(row[key] / row["tokens"] for row in rows)) for key in ("bytes_up", "bytes_down")),
        "",
    )
