"""A plan as JSON-ready data; the keys are documented in docs/cli.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from helora_core.compiler.phases import phases
from helora_core.errors import BudgetExceeded

if TYPE_CHECKING:
    from helora_core.compiler.plan import Plan


def plan_row(plan: Plan, tokens: int) -> dict[str, Any]:
    """The plan with its costs spread over so many tokens."""
    total, traffic = plan.counts.times(plan.runs(tokens)), plan.bytes_for(tokens)
    return {
        "packing": plan.packing.name,
        **msgspec.structs.asdict(plan.shape),
        "tokens": tokens,
        "tokens_per_run": plan.tokens_per_run,
        "runs": plan.runs(tokens),
        **msgspec.structs.asdict(plan.counts),
        "rotations_per_token": total.rotations / tokens,
        "keyswitches_per_token": total.keyswitches / tokens,
        "rescales_per_token": total.rescales / tokens,
        "round_trips": plan.round_trips,
        **_phases(plan),
        "depth": plan.packing.depth,
        "rotation_steps": list(plan.rotation_steps),
        "constants": len(plan.constant_specs),
        "layout": dict(plan.layout.figures),
        "ring_degree": plan.params.ring_degree,
        "data_bits": list(plan.params.data_bits),
        "special_bits": list(plan.params.special_bits),
        "scales": msgspec.structs.asdict(plan.scales),
        "modulus_bits": plan.params.modulus_bits,
        "security_bits": plan.verdict.security_bits,
        "security_table": plan.verdict.table,
        "security_limit_bits": plan.verdict.limit_bits,
        "leakage": plan.packing.leakage.key_holder.value,
        "leakage_label": plan.leakage_label,
        "needs_sanitize": plan.packing.leakage.needs_sanitize,
        "sanitize_bits": plan.sanitize_bits,
        "leakage_note": plan.packing.leakage.explanation,
        "assumes": [assumption.value for assumption in plan.packing.leakage.assumes],
        "exponent": plan.exponent,
        "is_zero": plan.is_zero,
        "bytes_up_estimate": traffic.up,
        "bytes_down_estimate": traffic.down,
        "key_bytes_estimate": plan.key_bytes,
        "expected_bits": plan.precision().bits,
        "normalized_error_bound": plan.precision().error_bound,
        "flood_bits": sorted(set(plan.precision().flood_bits.values())),
        "over_budget": _over_budget(plan, tokens),
        "digest": plan.digest,
    }


def _phases(plan: Plan) -> dict[str, Any]:
    if plan.correlation is None:
        return {}
    found = phases(plan.rounds, plan.program, plan.shape, plan.correlation, plan.params)
    found["online"]["bits_per_query"] = plan.bits_per_query
    return {"phases": found, "wrap_bits": plan.params.wrap_bits}


def _over_budget(plan: Plan, tokens: int) -> str | None:
    try:
        plan.check_budget(tokens)
    except BudgetExceeded as error:
        return error.message
    return None
