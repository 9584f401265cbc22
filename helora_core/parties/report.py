"""The results of a run as JSON-ready data: the rows of ``helora demo`` and ``helora run``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.compiler.cost import Budget, Sizes, check_budget
from helora_core.errors import BudgetExceeded, PrecisionLost
from helora_core.execution.reference import precision_bits
from helora_core.parties.adapter_run import ModuleResult
from helora_core.parties.client_run import relative_bits
from helora_core.parties.request_report import Report

_NS_PER_MS = 1e6


def result_row(result: ModuleResult, *, backend: str, secure: bool) -> dict[str, Any]:
    """One module's row; the keys are documented in docs/cli.md. Times are per token, operation counts are totals.

    Without the adapter there is nothing to compare Δ with: precision and error are None then.
    """
    report, module = result.report, result.job.module
    tokens = int(result.delta.shape[0])

    def ms_per_token(elapsed_ns: int) -> float:
        return elapsed_ns / (tokens * _NS_PER_MS)

    return {
        "module": module.name,
        "backend": backend,
        "secure": secure,
        **result.job.chosen.to_dict(tokens=tokens),
        "error_bound": float(np.max(result.error_bound)),
        "bound_bits": relative_bits(result.delta, result.error_bound),
        **_precision(result),
        "load_ms": result.load_ns / _NS_PER_MS,
        "encrypt_ms": ms_per_token(report.times.encrypt),
        "compute_ms": ms_per_token(report.times.compute),
        "decrypt_ms": ms_per_token(report.times.decrypt),
        "ms_per_token": ms_per_token(report.times.total),
        "tokens_per_second": 1e9 * tokens / report.times.total,
        "bytes_up": report.bytes_up,
        "bytes_down": report.bytes_down,
        "ahead": _ahead(result.ahead),
        "executed": msgspec.structs.asdict(report.executed),
        "inner": msgspec.structs.asdict(report.inner),
    }


def _ahead(report: Report | None) -> dict[str, Any] | None:
    """What was done ahead of time, in total."""
    if report is None:
        return None
    return {
        "correlations": report.correlations,
        "client_ms": (report.times.encrypt + report.times.decrypt) / _NS_PER_MS,
        "server_ms": report.times.compute / _NS_PER_MS,
        "ms": report.times.total / _NS_PER_MS,
        "bytes_up": report.bytes_up,
        "bytes_down": report.bytes_down,
        "executed": msgspec.structs.asdict(report.executed),
    }


def _precision(result: ModuleResult) -> dict[str, float | None]:
    module, delta = result.job.module, result.delta
    if not isinstance(module, LoRAModule):
        return {"precision_bits": None, "max_abs_error": None}
    reference = module.reference_delta(np.asarray(result.job.x, dtype=np.float64))
    return {
        "precision_bits": precision_bits(delta, reference),
        "max_abs_error": float(np.max(np.abs(delta - reference))),
    }


def require_precision(rows: Sequence[dict[str, Any]], min_bits: float) -> None:
    """Check that each Δ is precise enough by the bound on its error, and check the bound itself where possible.

    Raises:
        PrecisionLost: Names every module with fewer than ``min_bits``, or whose error exceeds its bound.
    """
    wrong = [
        row["module"]
        for row in rows
        if row["max_abs_error"] is not None and not row["max_abs_error"] <= row["error_bound"]
    ]
    if wrong:
        raise PrecisionLost(
            f"Runtime: Δ is off by more than the bound allows: {', '.join(wrong)}.",
            hint="The backend may be at fault: run `helora conform` on it, and report this.",
        )
    short = {row["module"]: row["bound_bits"] for row in rows if not row["bound_bits"] >= min_bits}
    if short:
        missing = max(min_bits - max(bits, 0.0) for bits in short.values())
        wanted = math.ceil(max(row["expected_bits"] for row in rows if row["module"] in short) + missing)
        raise PrecisionLost(
            f"Runtime: the bound on the error leaves less than {min_bits:g} bits of Δ: "
            + ", ".join(f"{name} has {bits:.1f}" for name, bits in short.items())
            + ".",
            hint=f"Ask for parameters with --target-bits {wanted}, if any exist: these Δ are small next to ‖x‖ and "
            "the weights. Or accept fewer bits with --min-bits.",
        )


def require_budget(results: Iterable[ModuleResult], budget: Budget) -> None:
    """Check the executed operations, by the ledger, and the bytes sent against a budget.

    Keys are judged by their estimate, since they are made once for all modules.

    Raises:
        BudgetExceeded: Names the first module over the budget, and by which cost.
    """
    for result in results:
        report, plan = result.report, result.job.chosen
        sizes = Sizes(bytes=report.bytes_up + report.bytes_down, key_bytes=plan.key_bytes, depth=plan.packing.depth)
        tokens = int(result.delta.shape[0])
        try:
            check_budget(report.executed, tokens=tokens, budget=budget, sizes=sizes, program=plan.program)
        except BudgetExceeded as error:
            raise BudgetExceeded(
                f"Runtime: {result.job.module.name}, {tokens} tokens executed: {error.message}", hint=error.hint
            ) from error
