"""``helora backends``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.host.manager import PluginManager


@click.command()
@options.wide
@options.as_json
def backends(as_json: bool) -> None:
    """List the CKKS backends.

    Where each comes from, whether it can be used here or why not, whether it encrypts, and what it can do.
    """
    from helora_core.cli.output import print_json, print_table, warn
    from helora_core.cli.tables import Column, Table
    from helora_core.cli.terminal import say
    from helora_core.host.manager import get_manager

    manager = get_manager()
    rows = [_row(manager, name) for name in manager.backends()]
    failures = [
        {"plugin": failure.plugin, "distribution": failure.distribution, "stage": failure.stage,
         "code": failure.code, "reason": failure.reason, "next_step": failure.next_step}
        for failure in manager.failures
    ]  # fmt: skip
    if as_json:
        print_json({"backends": rows, "failures": failures})
        return
    columns = [
        Column("backend"), Column("distribution"), Column("library"), Column("ready"), Column("secure"),
        Column("capabilities", prose=True), Column("summary", prose=True),
    ]  # fmt: skip
    print_table(Table(columns, [_cells(row) for row in rows], spare=("capabilities", "distribution", "library")))
    for row in rows:
        if row["reason"] or row["only_by_name"]:
            say(f"{row['name']}: {row['reason'] or row['only_by_name']}", hanging=2)
    for failure in failures:
        warn(f"{failure['reason']}. {failure['next_step']}")


def _row(manager: PluginManager, name: str) -> dict[str, Any]:
    import msgspec

    from helora_core.errors import HeloraError

    registered = manager.backends()[name]
    reason, capabilities = registered.availability, None
    if reason is None:
        try:
            capabilities = msgspec.to_builtins(manager.load_backend(name).capabilities)
        except HeloraError as error:
            reason = error.message
    return {
        "name": name,
        "distribution": registered.distribution,
        "version": registered.version,
        "library": registered.spec.library,
        "library_version": registered.library_version,
        "available": reason is None,
        "reason": reason,
        "only_by_name": registered.only_by_name,
        "secure": registered.spec.provides_security,
        "capabilities": capabilities,
        "summary": registered.spec.summary,
    }


def _ready(row: dict[str, Any]) -> str:
    if not row["available"]:
        return "no"
    return "by name" if row["only_by_name"] else "yes"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    abilities = row["capabilities"] or {}
    words = [key.replace("_", " ") for key, value in abilities.items() if value is True]
    words += [f"{key}: {', '.join([value] if isinstance(value, str) else value)}"
              for key, value in abilities.items() if isinstance(value, str | list)]  # fmt: skip
    return (
        row["name"],
        f"{row['distribution']} {row['version'] or ''}",
        f"{row['library']} {row['library_version'] or ''}",
        _ready(row),
        "yes" if row["secure"] else "NO: emulation",
        "; ".join(words),
        row["summary"],
    )
