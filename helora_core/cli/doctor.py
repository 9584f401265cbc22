"""``helora doctor``."""

from __future__ import annotations

from typing import Any

import click

from helora_core.cli import options


@click.command()
@options.wide
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what helora finds on this machine, and what would run.

    Processor, compilers, backends or why not, what auto takes, calibration, parts for language models, folders and
    variables. Exit status 1 if nothing that encrypts can run, or something is broken.
    """
    from helora_core.cli.health import findings
    from helora_core.cli.output import print_json

    found = findings()
    if as_json:
        print_json(found)
    else:
        _show(found)
    ctx.exit(1 if found["problems"] else 0)


def _show(found: dict[str, Any]) -> None:
    from helora_core.cli.output import counted, field, print_table, size, warn
    from helora_core.cli.tables import Column, Table
    from helora_core.cli.terminal import say

    processor = found["processor"]
    field("helora", f"{found['helora']} on Python {found['python']}, {found['platform']}")
    field("processor", f"{processor['model'] or 'unknown'}, {counted(processor['cores'], 'core')} for this process")
    field("", " ".join(processor["features"]) or "no features known")
    field("compilers", *(f"{each['name']}: {each['version'] or each['path']}" for each in found["compilers"]))
    facts = {(row["name"], name): fact for row in found["backends"] for name, fact in row["facts"].items()}
    for (backend, name), fact in facts.items():
        field(f"{backend} {name}", fact)
    if not any(name == "card" for _, name in facts):
        field("card", "none that a backend here computes on")
    field("auto takes", *_auto(found["auto"]))
    say("")
    columns = [Column("backend"), Column("ready"), Column("secure"), Column("library"), Column("calibrated")]
    print_table(Table(columns, [_cells(row) for row in found["backends"]], spare=("library",)))
    told = {each["backend"] for each in found["auto"]["skipped"]}
    for row in found["backends"]:
        if (row["reason"] or row["only_by_name"]) and row["name"] not in told:
            say(f"{row['name']}: {row['reason'] or row['only_by_name']}", hanging=2)
    say("")
    rows = [(each["name"], each["version"] or "no", each["for"]) for each in found["extras"]]
    columns = [Column("part"), Column("version"), Column("for", prose=True)]
    print_table(Table(columns, rows))
    missing: dict[str, list[str]] = {}
    for each in found["extras"]:
        if not each["version"]:
            missing.setdefault(each["install"], []).append(each["name"])
    for how, names in missing.items():
        say(f"{', '.join(names)}: {how}", hanging=2)
    say("")
    for each in found["folders"]:
        there = f"{counted(each['files'], 'file')}, {size(each['bytes'])}" if each["exists"] else "not there"
        field(each["what"], f"{each['path']}: {there}")
    field("variables", *(f"{name}={value}" for name, value in found["variables"].items() if value is not None))
    unset = ", ".join(name for name, value in found["variables"].items() if value is None)
    field("not set", unset)
    for each in found["problems"]:
        warn(each["what"])
        say(f"  hint: {each['hint']}", err=True, hanging=2)
    say("\n" + _verdict(found))


def _auto(auto: dict[str, Any]) -> list[str]:
    if auto["backend"] is None:
        return ["nothing"]
    why = f", which {auto['named_by']} asks for" if auto["named_by"] else ""
    skipped = [f"not {each['backend']}: {each['reason']}" for each in auto["skipped"]]
    return [f"{auto['backend']}{why or ', the best of those that encrypt and can run here'}", *skipped]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ready = "no" if not row["available"] else "by name" if row["only_by_name"] else "yes"
    secure = "yes" if row["secure"] else "NO: emulation"
    return row["name"], ready, secure, row["library"], _calibrated(row["profile"])


def _calibrated(profile: dict[str, Any] | None) -> str:
    if profile is None:
        return ""
    if profile["refusal"]:
        return "damaged"
    if profile["date"] is None:
        return "no"
    return f"{profile['date'][:10]}" + (f", other {', '.join(profile['differs'])}" if profile["differs"] else "")


def _verdict(found: dict[str, Any]) -> str:
    from helora_core.cli.output import counted

    if found["problems"]:
        count = len(found["problems"])
        return f"{counted(count, 'problem')}: see the hint{'s' * (count > 1)}."
    name = found["auto"]["backend"]
    calibrated = any(row["profile"] and row["profile"]["date"] for row in found["backends"] if row["name"] == name)
    advice = "" if calibrated else f" For predicted times: helora calibrate --backend {name}."
    return f"All is well: {name} encrypts here.{advice}"
