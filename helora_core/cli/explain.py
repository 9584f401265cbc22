"""``helora explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helora_core.cli import options
from helora_core.cli.ranking import batches_of, on_subjects, ranked_rows, when_it_pays


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


_SPARE = ("enc", "dec", "compute", "N", "tok/run", "rot/tok", "bound by", "bytes/tok", "backend")


def _print_ranking(title: str, tokens: int, rows: list[dict[str, Any]]) -> None:
    from helora_core.cli.output import print_table, seconds, size
    from helora_core.cli.tables import Table
    from helora_core.cli.terminal import say

    say(f"\n{title}")
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
    headings = ("", "packing", "backend", *numbers, "leakage", "bound by")
    print_table(Table.of_text(headings, table, numbers=numbers, spare=_SPARE))
    for row in rows:
        if row.get("ahead"):
            say(f"  {_prepared(row)}", hanging=2)
    for row in rows:
        if row["refusal"]:
            say(
                f"  not {row['packing']}" + (f" on {row['backend']}" if row["backend"] else "") + f": {row['refusal']}",
                hanging=2,
            )


def _prepared(row: dict[str, Any]) -> str:
    """What a candidate prepares ahead of time, in a sentence."""
    from helora_core.cli.output import seconds, size

    ahead = row["ahead"]
    pays = when_it_pays(ahead)
    return (
        f"{row['packing']} on {row['backend']}: {seconds(ahead['ms_per_token'])} ms/token ahead ({batches_of(ahead)}; "
        f"{size(ahead['bytes_up_per_token'])} up, {size(ahead['bytes_down_per_token'])} down), "
        f"{seconds(ahead['online_ms_per_token'])} ms online, {size(ahead['kept_bytes_per_token'])} stored a token"
        + (f"; {pays}" if pays else "")
    )
