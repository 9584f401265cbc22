"""``helora predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from helora_core.cli import options
from helora_core.cli.ranking import on_subjects, ranked_rows


@on_subjects
def predict(
    adapter_path: Path | None,
    module_name: str,
    shape: str | None,
    model: str | None,
    tokens: int,
    execution: options.Execution,
    as_json: bool,
) -> None:
    """Predict the time of the best plan, and its bottleneck.

    Needs a profile of the backend: run `helora calibrate` first. The packing is the planner's choice, or --packing.
    """
    from helora_core.cli.output import print_json
    from helora_core.errors import NothingEligible, ProfileMissing

    rows = []
    for name, ranking in ranked_rows(adapter_path, module_name, shape, model, tokens, execution):
        best = ranking[0] if ranking else {"refusal": "there is no packing"}
        if best["refusal"]:
            raise NothingEligible(f"{name or shape}: {best['refusal']}", hint="helora explain shows every refusal.")
        if best["plan"] is not None and "phases" in best["plan"]:
            raise ProfileMissing(
                f"Packing {best['packing']} runs ahead of time, and such plans are not predicted.",
                hint="helora plan shows what each phase does and sends.",
            )
        if best["ms_per_token"] is None:
            raise ProfileMissing(
                f"Backend {best['backend'] or 'auto'} was not calibrated here.", hint="Run helora calibrate first."
            )
        rows.append({"module": name, "tokens": tokens, **best})
    if as_json:
        print_json(rows[0] if len(rows) == 1 else rows)
        return
    for row in rows:
        _print_prediction(row)


def _print_prediction(row: dict[str, Any]) -> None:
    from helora_core.cli.output import seconds

    plan = row["plan"]
    click.echo(
        f"{row['module']}: {seconds(row['ms_per_token'])} ms per token with {row['packing']} on {row['backend']}, "
        f"N={plan['ring_degree']}, {plan['tokens_per_run']} tokens a run"
    )
    phases = (
        ("encrypt", "encrypt_ms"),
        ("compute", "compute_ms"),
        ("decrypt", "decrypt_ms"),
        ("network", "round_trip_ms"),
    )
    click.echo("  " + ", ".join(f"{name} {seconds(row[key])}" for name, key in phases))
    parts = ", ".join(f"{name} {seconds(ms)}" for name, ms in row["by_operation_ms"].items())
    click.echo(f"  compute is {parts}")
    click.echo(f"  {row['bottleneck']} ({row['bottleneck_share']:.0%}): {row['advice']}")
