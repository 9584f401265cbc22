"""``helora bench``: finds its commands, and imports each only when it is used."""

from __future__ import annotations

import importlib

import click

_COMMANDS = {
    "ab": "harness.cli_ab:ab",
    "claims": "harness.bench.cli_claims:claims",
    "counts": "harness.bench.cli_counts:counts",
    "e2e": "harness.bench.cli_e2e:e2e",
    "export": "harness.cli_export:export",
    "grow": "harness.grow_history:grow",
    "history": "harness.cli_export:history",
    "micro": "harness.bench.cli_micro:micro",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Commands)
def bench() -> None:
    """Count, time and compare, over commits and backends; from a checkout.

    Counts gate, clocks inform: see docs/benchmarks.md.
    """
