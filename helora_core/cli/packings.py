"""``helora packings``."""

from __future__ import annotations

from typing import Any

import click

from helora_core.cli import options


@click.command()
@options.wide
@options.as_json
def packings(as_json: bool) -> None:
    """List the packing strategies.

    Depth, whether they rotate, what the key holder learns, and when to use them.
    """
    from helora_core.cli.output import print_json, print_table
    from helora_core.cli.tables import Column, Table
    from helora_core.cli.terminal import say
    from helora_core.host.manager import get_manager

    manager = get_manager()
    rows: list[dict[str, Any]] = []
    for name, registered in manager.packings().items():
        packing = manager.load_packing(name)
        rows.append(
            {
                "name": name,
                "distribution": registered.distribution,
                "version": packing.version,
                "depth": packing.depth,
                "rotates": packing.rotates,
                "leakage": packing.leakage.key_holder.value,
                "assumes": [assumption.value for assumption in packing.leakage.assumes],
                "needs_sanitize": packing.leakage.needs_sanitize,
                "client_finishes": packing.client_finishes,
                "leakage_note": packing.leakage.explanation,
                "summary": registered.spec.summary,
            }
        )
    if as_json:
        print_json(rows)
        return
    columns = [
        Column("packing"), Column("depth", number=True), Column("rotates"), Column("key holder learns", prose=True),
        Column("summary", prose=True),
    ]  # fmt: skip
    cells = [
        (row["name"], str(row["depth"]), "yes" if row["rotates"] else "no",
         row["leakage"] + "*" * row["needs_sanitize"] + "†" * bool(row["assumes"]), row["summary"])
        for row in rows
    ]  # fmt: skip
    print_table(Table(columns, cells, spare=("depth", "rotates")))
    say("key holder learns: beyond Δ, which it decrypts", hanging=2)
    say("* holds for sanitised results, which private weights (the default) are given as (SECURITY.md).", hanging=2)
    for assumption in dict.fromkeys(name for row in rows for name in row["assumes"]):
        say(f"† rests on {assumption} of every client, which has to be accepted (--assume).", hanging=2)
