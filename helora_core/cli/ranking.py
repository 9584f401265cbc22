"""Shared by ``helora explain`` and ``helora predict``: subjects in, ranked candidates out, and what they prepare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options
from helora_core.cli.numbers import Whole

if TYPE_CHECKING:
    from helora_core.cli.subjects import Subject
    from helora_core.planning.planner import Candidate
    from helora_core.planning.predict import Prediction


_subject = (
    options.adapter(required=False),
    options.module,
    click.option("--shape", metavar="D_IN:D_OUT:R", help="A module's shape, instead of an adapter, as 1536:256:16."),
    click.option(
        "--model",
        metavar="NAME",
        shell_complete=options.models,
        help="The modules of a model, instead of an adapter.",
    ),
    click.option(
        "--tokens",
        type=Whole(1, options.MOST_TOKENS),
        default=1,
        show_default=True,
        metavar="T",
        help="Tokens in flight.",
    ),
    options.execution,
    options.wide,
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
    from helora_core.cli.output import working
    from helora_core.cli.subjects import subjects
    from helora_core.planning.compiling import candidates

    if sum(each is not None for each in (adapter_path, shape, model)) != 1:
        raise click.UsageError("Give one of --adapter PATH, --shape D_IN:D_OUT:R and --model NAME.")
    found = subjects(adapter_path, module_name, shape, model, share=execution.share)
    known: dict[Any, list[Candidate]] = {}
    ranked = []
    for name, each in found.items():
        if each.key not in known:
            with working(f"compiling every packing for {each.shape}"):
                known[each.key] = candidates(each.request(execution, (tokens,)))
        exponents = _exponents(each, known[each.key])
        ranked.append((name or shape, _rows(known[each.key], exponents)))
    return ranked


def _rows(ranked: list[Candidate], exponents: dict[bool, int]) -> list[dict[str, Any]]:
    online = (each for each in ranked if each.prediction is not None and each.prediction.ahead is None)
    best = next(online, None)
    return [_row(candidate, exponents, best) for candidate in ranked]


def _exponents(subject: Subject, ranked: list[Candidate]) -> dict[bool, int]:
    """The module's exponents, for plans that multiply by up·down at once and for others; none for a shape."""
    from helora_core.compiler.exponents import normalized

    if subject.module is None:
        return {}
    kinds = {candidate.plan.merged for candidate in ranked if candidate.plan is not None}
    return {merged: normalized(subject.module, merged=merged)[1] for merged in kinds}


def _row(candidate: Candidate, exponents: dict[bool, int], best_online: Candidate | None) -> dict[str, Any]:
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
            "ahead": _ahead(prediction, best_online),
            "bottleneck": bound.label,
            "bottleneck_share": bound.share,
            "advice": bound.advice,
        }
    return row


def _ahead(prediction: Prediction, best_online: Candidate | None) -> dict[str, Any] | None:
    """What is prepared ahead of time, and from how many tokens on it pays; None if nothing is."""
    ahead, per = prediction.ahead, prediction.tokens
    if ahead is None:
        return None
    other = None if best_online is None else best_online.prediction
    up, down = ahead.bytes_per_token
    return {
        "expected_tokens": ahead.expected,
        "tokens_per_batch": ahead.size,
        "batches": ahead.batches,
        "client_ms_per_batch": ahead.client_ms,
        "server_ms_per_batch": ahead.server_ms,
        "ms_per_token": ahead.ms_per_token,
        "online_ms_per_token": prediction.online_ms / per,
        "bytes_up_per_token": up,
        "bytes_down_per_token": down,
        "kept_bytes_per_token": ahead.kept_bytes,
        "against": None if best_online is None else best_online.packing,
        "pays_from": None if other is None else ahead.pays_from(prediction.online_ms / per, other.ms_per_token),
    }


def batches_of(ahead: dict[str, Any]) -> str:
    """How many batches are prepared, for how many tokens, in words."""
    batches = f"{ahead['batches']} batches" if ahead["batches"] > 1 else "a batch"
    expected = ahead["expected_tokens"]
    return f"{batches} of {ahead['tokens_per_batch']} for {expected} token{'s' * (expected > 1)}"


def when_it_pays(ahead: dict[str, Any]) -> str:
    """From how many tokens on, in words; empty if there is nothing to compare it with."""
    if ahead["against"] is None:
        return ""
    if ahead["pays_from"] is None:
        return f"never pays against {ahead['against']}"
    return f"pays from {ahead['pays_from']} token{'s' * (ahead['pays_from'] > 1)} on against {ahead['against']}"
