"""Shared by ``helora explain`` and ``helora predict``: subjects in, ranked candidates out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.cli.subjects import Subject
    from helora_core.planning.planner import Candidate


_subject = (
    options.adapter(required=False),
    options.module,
    click.option("--shape", metavar="D_IN:D_OUT:R", help="A module's shape, instead of an adapter, as 1536:256:16."),
    click.option("--model", metavar="NAME", help="The modules of a model, instead of an adapter."),
    click.option(
        "--tokens",
        type=click.IntRange(1, options.MOST_TOKENS),
        default=1,
        show_default=True,
        metavar="T",
        help="Tokens in flight.",
    ),
    options.execution,
    options.as_json,
)


def on_subjects(command: Any) -> Any:
    """Give a command the options that say what to plan for, and how."""
    for option in reversed(_subject):
        command = option(command)
    return click.command()(command)


def ranked_rows(
    adapter_path: Path | None,
    module_name: str,
    shape: str | None,
    model: str | None,
    tokens: int,
    execution: options.Execution,
) -> list[tuple[str | None, list[dict[str, Any]]]]:
    """For each subject by name, JSON-ready rows of its candidates; the keys are documented in docs/cli.md."""
    from helora_core.cli.subjects import subjects
    from helora_core.planning.compiling import candidates

    if sum(each is not None for each in (adapter_path, shape, model)) != 1:
        raise click.UsageError("Give one of --adapter PATH, --shape D_IN:D_OUT:R and --model NAME.")
    found = subjects(adapter_path, module_name, shape, model, share=execution.share)
    known: dict[Any, list[Candidate]] = {}
    ranked = []
    for name, each in found.items():
        if each.key not in known:
            known[each.key] = candidates(each.request(execution, (tokens,)))
        exponents = _exponents(each, known[each.key])
        ranked.append((name or shape, [_row(candidate, exponents) for candidate in known[each.key]]))
    return ranked


def _exponents(subject: Subject, ranked: list[Candidate]) -> dict[bool, int]:
    """The module's exponents, for plans that multiply by up·down at once and for others; none for a shape."""
    from helora_core.compiler.exponents import normalized

    if subject.module is None:
        return {}
    kinds = {candidate.plan.merged for candidate in ranked if candidate.plan is not None}
    return {merged: normalized(subject.module, merged=merged)[1] for merged in kinds}


def _row(candidate: Candidate, exponents: dict[bool, int]) -> dict[str, Any]:
    from helora_core.planning.predict import bottleneck

    plan, prediction = candidate.plan, candidate.prediction
    if plan is not None and exponents:
        plan = plan.with_exponent(exponents[plan.merged])
    row: dict[str, Any] = {
        "backend": candidate.backend,
        "packing": candidate.packing,
        "refusal": candidate.refusal.message if candidate.refusal else None,
        "hint": candidate.refusal.hint if candidate.refusal else None,
        "cost": None if plan is None else candidate.cost,
        "ms_per_token": None,
        "plan": None if plan is None else plan.to_dict(),
    }
    if prediction is not None:
        bound = bottleneck(prediction)
        per = prediction.tokens
        row |= {
            "ms_per_token": prediction.ms_per_token,
            "encrypt_ms": prediction.encrypt_ms / per,
            "compute_ms": prediction.compute_ms / per,
            "decrypt_ms": prediction.decrypt_ms / per,
            "round_trip_ms": prediction.round_trip_ms / per,
            "by_operation_ms": {name: ms / per for name, ms in prediction.by_operation.items()},
            "bottleneck": bound.label,
            "bottleneck_share": bound.share,
            "advice": bound.advice,
        }
    return row
