"""Adapters of whole models, which ``helora bench lm`` measured, as rows of the page of claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helora_harness.claims.figures import WholeAdapter
from helora_harness.claims.measure import Values
from helora_harness.lm import figures
from helora_harness.lm.figures import Part, Shaped
from helora_harness.lm.page import BACKEND, conditions


def _found(adapter: WholeAdapter) -> tuple[Part, Shaped] | None:
    for part in figures.read().of("shapes"):
        for row in part.shapes:
            if part.conditions.backend == BACKEND and (row.shape, row.mode) == (adapter.shape, adapter.mode):
                return None if row.refused else (part, row)
    return None


def unmeasured(adapters: Sequence[WholeAdapter]) -> list[str]:
    """Adapters without figures, in words."""
    return [
        f"{each.shape}, {each.mode}: harness/lm.json has no figures; run `helora bench lm measure --only shapes`"
        for each in adapters
        if _found(each) is None
    ]


def values_of(adapter: WholeAdapter) -> Values:
    """What the columns of the page call its figures; nothing if it has none."""
    found = _found(adapter)
    if found is None:
        return {"work": adapter.label}
    _, row = found
    return {
        "work": adapter.label,
        "modules": row.layers * sum(names.count(":") // 2 for names in row.modules),
        "tokens": 1,
        "ring_degree": "+".join(map(str, row.ring_degrees)),
        "sanitised": f"{row.sanitize_bits} bits" if row.sanitize_bits else "no",
        "ms_per_token": row.token_ms,
        "rotations_per_token": row.rotations,
        "precision_bits": row.bits or 0.0,
        "bytes_up_per_token": row.bytes_up,
        "bytes_down_per_token": row.bytes_down,
        "leakage": row.leakage + "".join(f", if {each}" for each in row.assumes),
    }


def conditions_of(adapters: Sequence[WholeAdapter]) -> Iterator[str]:
    """How they were measured."""
    lines = dict.fromkeys(conditions(found[0].conditions) for each in adapters if (found := _found(each)))
    yield from (f"Whole adapters: {each}" for each in lines)
