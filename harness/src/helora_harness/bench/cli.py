"""``helora bench``: finds its commands, and imports each only when it is used."""

from __future__ import annotations

import importlib

import click

from helora_core.cli.groups import Group

_COMMANDS = {
    "ab": "helora_harness.cli_ab:ab",
    "backends": "helora_harness.backends_page:backends_group",
    "by-hand": "helora_harness.by_hand:by_hand",
    "claims": "helora_harness.claims.cli:claims",
    "compile": "helora_harness.compile_speed:compile_command",
    "counts": "helora_harness.bench.cli_counts:counts",
    "e2e": "helora_harness.bench.cli_e2e:e2e",
    "export": "helora_harness.cli_export:export",
    "grow": "helora_harness.grow_history:grow",
    "history": "helora_harness.cli_export:history",
    "lm": "helora_harness.lm.cli:lm",
    "micro": "helora_harness.bench.cli_micro:micro",
    "mutation": "helora_harness.mutation.cli:mutation",
    "overhead": "helora_harness.cli_overhead:overhead",
    "pictures": "helora_harness.pictures.cli:pictures_group",
    "planner": "helora_harness.planner.cli:planner_group",
    "security-tables": "helora_harness.security_costs:security_tables",
    "sessions": "helora_harness.sessions:sessions",
}


class _Commands(Group):
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
    from helora_core.errors import InvalidInput
    from helora_harness.places import DATA, REPO

    if not (DATA / "counts.lock.json").is_file():
        raise InvalidInput(
            f"helora bench works on the checkout that it lies in, and {REPO} is none.",
            hint="In a checkout of helora, run `uv sync`, or `pip install -e . -e harness`.",
        )
