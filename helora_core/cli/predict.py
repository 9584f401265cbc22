"""``helora predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helora_core.cli import options
from helora_core.cli.ranking import batches_of, on_subjects, ranked_rows, when_it_pays


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
        if best["ms_per_token"] is None:
            backend = best["backend"] or "auto"
            raise ProfileMissing(
                f"Backend {backend} was not calibrated here.", hint=f"Run helora calibrate --backend {backend} first."
            )
        rows.append({"module": name, "tokens": tokens, **best})
    if as_json:
        print_json(rows[0] if len(rows) == 1 else rows)
        return
    for row in rows:
        _print_prediction(row)


def _print_prediction(row: dict[str, Any]) -> None:
    from helora_core.cli.output import seconds
    from helora_core.cli.terminal import say

    plan, ahead = row["plan"], row["ahead"]
    say(
        f"{row['module']}: {seconds(row['ms_per_token'])} ms per token with {row['packing']} on {row['backend']}, "
        f"N={plan['ring_degree']}" + ("" if ahead else f", {plan['tokens_per_run']} tokens a run")
    )
    if ahead:
        _print_ahead(ahead, plan["phases"]["online"])
    phases = (
        ("encrypt", "encrypt_ms"),
        ("compute", "compute_ms"),
        ("decrypt", "decrypt_ms"),
        ("network", "round_trip_ms"),
    )
    say(("  online " if ahead else "  ") + ", ".join(f"{name} {seconds(row[key])}" for name, key in phases))
    parts = ", ".join(f"{name} {seconds(ms)}" for name, ms in row["by_operation_ms"].items())
    say(f"  compute is {parts}", hanging=2)
    if ahead and when_it_pays(ahead):
        say(f"  it {when_it_pays(ahead)}")
    bound = f"{row['bottleneck']} ({row['bottleneck_share']:.0%}): {row['advice']}"
    say(f"  {bound}", hanging=2)


def _print_ahead(ahead: dict[str, Any], online: dict[str, Any]) -> None:
    """What is prepared, and what each phase moves."""
    from helora_core.cli.output import seconds, size
    from helora_core.cli.terminal import say

    share = ahead["batches"] / ahead["expected_tokens"]
    sides = (f"{side} {seconds(share * ahead[f'{side}_ms_per_batch'])}" for side in ("client", "server"))
    say(f"  ahead {', '.join(sides)}: {batches_of(ahead)}")
    kept = size(ahead["kept_bytes_per_token"])
    for start, phase, end in (("bytes a token: ahead", ahead, f", {kept} stored;"), ("  online", online, "")):
        up, down = size(phase["bytes_up_per_token"]), size(phase["bytes_down_per_token"])
        say(f"  {start} {up} up and {down} down{end}")
