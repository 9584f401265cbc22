"""``helora explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from helora_core.cli import options
from helora_core.cli.ranking import on_subjects, ranked_rows


@on_subjects
def explain(
    adapter_path: Path | None,
    module_name: str,
    shape: str | None,
    model: str | None,
    tokens: int,
    execution: options.Execution,
    as_json: bool,
) -> None:
    """Rank the packings for a module; say why others are refused.

    Every packing on every calibrated backend: predicted time, precision, bytes and leakage, or the refusal.
    """
    from helora_core.cli.output import print_json

    ranked = ranked_rows(adapter_path, module_name, shape, model, tokens, execution)
    if as_json:
        print_json([{"module": name, "tokens": tokens, "ranking": rows} for name, rows in ranked])
        return
    for name, rows in ranked:
        _print_ranking(f"{name}, {tokens} token{'s' * (tokens > 1)} in flight, {execution.secure_by}", tokens, rows)


def _bytes_per_token(plan: dict[str, Any], runs: float) -> float:
    """Up and down; online, for plans that run ahead of time."""
    if "phases" in plan:
        online = plan["phases"]["online"]
        return float(online["bytes_up_per_token"] + online["bytes_down_per_token"])
    return runs * float(plan["bytes_up_estimate"] + plan["bytes_down_estimate"])


_SPARE = ("bound by", "enc", "dec", "compute", "N", "tok/run", "rot/tok")


def _print_ranking(title: str, tokens: int, rows: list[dict[str, Any]]) -> None:
    from helora_core.cli.output import print_table, seconds, size

    click.echo(f"\n{title}")
    numbers = ("N", "tok/run", "ms/tok", "enc", "compute", "dec", "rot/tok", "bits", "bytes/tok")
    table = []
    for rank, row in enumerate(row for row in rows if not row["refusal"]):
        plan = row["plan"]
        runs = -(-tokens // plan["tokens_per_run"])
        timed = row["ms_per_token"] is not None
        table.append(
            (
                str(rank + 1),
                row["packing"],
                row["backend"],
                str(plan["ring_degree"]),
                str(plan["tokens_per_run"]),
                *(
                    (seconds(row[key]) if timed else "?")
                    for key in ("ms_per_token", "encrypt_ms", "compute_ms", "decrypt_ms")
                ),
                f"{plan['rotations'] * runs / tokens:.2f}",
                f"{plan['expected_bits']:.1f}",
                size(_bytes_per_token(plan, runs / tokens)),
                plan["leakage_label"],
                row.get("bottleneck", "not calibrated"),
            )
        )
    print_table(("", "packing", "backend", *numbers, "leakage", "bound by"), table, numbers=numbers, spare=_SPARE)
    for row in rows:
        if row["refusal"]:
            click.echo(
                f"  not {row['packing']}" + (f" on {row['backend']}" if row["backend"] else "") + f": {row['refusal']}"
            )
