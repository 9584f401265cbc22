"""The table of ``helora plan --rings``: a module's plan in each ring degree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helora_core.cli.output import amount, print_table, seconds
from helora_core.cli.tables import Column, Table
from helora_core.cli.terminal import say

if TYPE_CHECKING:
    from helora_core.backend.protocol import Backend
    from helora_core.compiler.plan import Plan
    from helora_core.compiler.request import PlanRequest
    from helora_core.compiler.rings import RingOption
    from helora_core.packing.protocol import Packing


def ring_rows(request: PlanRequest, packing: Packing, *, backend: Backend | None) -> list[dict[str, Any]]:
    """One row per ring degree of the security table; predicted times only with a backend to measure on."""
    from helora_core.compiler.rings import ring_options

    return [_row(request, option, backend) for option in ring_options(request, packing)]


_OF_A_PLAN = ("security_bits", "modulus_bits", "tokens_per_run", "rotations", "rotations_per_token",
              "predicted_ms_per_run", "predicted_ms_per_token")  # fmt: skip


def _row(request: PlanRequest, option: RingOption, backend: Backend | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "shape": str(request.shape),
        "ring_degree": option.ring_degree,
        "slots": option.ring_degree // 2,
        "possible": option.plan is not None,
        "reason": option.refusal.message if option.refusal else None,
        **dict.fromkeys(_OF_A_PLAN),
    }
    if option.plan is None:
        return row
    plan = option.plan
    row |= {
        "security_bits": plan.verdict.security_bits,
        "modulus_bits": plan.params.modulus_bits,
        "tokens_per_run": plan.tokens_per_run,
        "rotations": plan.counts.rotations,
        "rotations_per_token": plan.counts.rotations / plan.tokens_per_run,
    }
    if backend is not None:
        predicted = _predicted_ms(row, plan, backend, request.constraints.table)
        row["predicted_ms_per_run"] = predicted
        row["predicted_ms_per_token"] = None if predicted is None else predicted / plan.tokens_per_run
    return row


def _predicted_ms(row: dict[str, Any], plan: Plan, backend: Backend, table: str) -> float | None:
    """Counts of the plan times the times of its operations here; None if the backend does not support this ring."""
    from helora_core.errors import CapabilityMissing, InsecureParameters, InvalidParameters
    from helora_core.planning.calibrate import calibrate
    from helora_core.planning.predict import predict

    try:
        profile = calibrate(backend, chains=(plan.params,), rounds=3, table=table)
    except CapabilityMissing:
        return None
    except (InvalidParameters, InsecureParameters) as error:
        row["reason"] = error.message
        return None
    return predict(plan, profile, tokens=plan.tokens_per_run).total_ms


def print_rings(rows: list[dict[str, Any]], *, backend: str | None) -> None:
    """Print the table."""
    numbers = ("ring", "slots", "security", "log2(QP)", "tokens/run", "rot/token", "ms/run", "ms/token")
    columns = [Column("shape"), *(Column(heading, number=True) for heading in numbers), Column("note", prose=True)]
    cells = [_cells(row) for row in rows]
    if not any(row[-1] for row in cells):
        columns, cells = columns[:-1], [row[:-1] for row in cells]
    spare = ("log2(QP)", "slots", "ms/run", "security", "rot/token", "shape")
    print_table(Table(columns, cells, spare=spare))
    source = f"operations timed on {backend} just now" if backend else "no backend to time operations on"
    say(f"ms: predicted, counts × operation times ({source}); a full run's tokens share its cost", hanging=2)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if not row["possible"]:
        return (row["shape"], str(row["ring_degree"]), str(row["slots"]), *[""] * 6, row["reason"])
    return (
        row["shape"],
        str(row["ring_degree"]),
        str(row["slots"]),
        f"{row['security_bits']} bits",
        str(row["modulus_bits"]),
        str(row["tokens_per_run"]),
        amount(row["rotations_per_token"]),
        *("" if row[key] is None else seconds(row[key]) for key in ("predicted_ms_per_run", "predicted_ms_per_token")),
        row["reason"] or "",
    )
