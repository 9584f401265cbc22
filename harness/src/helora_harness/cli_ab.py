"""Two commits, or two backends, compared on the clock; see ``ab.py`` for how.

It is ``helora bench ab``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli.numbers import Real, Whole
from helora_core.cli.options import wide
from helora_core.errors import InvalidInput
from helora_harness.places import REPO

if TYPE_CHECKING:
    from helora_harness.ab import Comparison, Plan
    from helora_harness.checkouts import Code
    from helora_harness.rows import Cell

CELLS = ("tenseal rank_bsgs 512:512:8 1", "tenseal rank_bsgs 1536:1536:16 1", "tenseal zero_moai 512:512:8 1")


def _cells(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[Cell]:
    from helora_harness.cases import PRESETS
    from helora_harness.rows import Cell

    cells: list[Cell] = []
    for value in values or CELLS:
        if value in PRESETS:
            cells += PRESETS[value]
            continue
        try:
            backend, packing, shape, tokens = value.split()
            cells.append(Cell(backend=backend, packing=packing, shape=shape, tokens=int(tokens)))
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is neither 'backend packing d_in:d_out:r tokens' nor one of {', '.join(PRESETS)}"
            ) from None
    return list(dict.fromkeys(cells))


@click.command()
@click.argument("commits", nargs=-1, metavar="[BASE HEAD]")
@click.option("--backends", nargs=2, metavar="A B", help="Compare two backends on the working tree.")
@click.option(
    "--cells",
    multiple=True,
    callback=_cells,
    metavar="CELL",
    help="As 'tenseal rank_bsgs 512:512:8 1', or a preset; may be given again.",
)
@click.option("--spawns", type=Whole(8), default=8, show_default=True, help="Fresh processes per side.")
@click.option("--blocks", type=Whole(1), default=5, show_default=True, help="Timings in each, in pairs.")
@click.option("--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), default=REPO, hidden=True)
@click.option(
    "--fail-over",
    type=Real(1.0),
    metavar="RATIO",
    help="Exit with 1 if a slowdown is certainly larger than this, and is so again when measured once more.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Append the JSON document to this file.")
@wide
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ab(
    commits: tuple[str, ...],
    backends: tuple[str, str] | None,
    cells: list[Cell],
    spawns: int,
    blocks: int,
    repo: Path,
    fail_over: float | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare two commits, or two backends: faster, slower, same or undecided.

    Commits run in worktrees with the libraries of this environment. Processes alternate, so that a machine whose
    speed drifts does not matter, and the base runs against itself too: the A/A floor.
    """
    from helora_harness.ab import Plan

    if (len(commits) != 2) == (backends is None):
        raise click.UsageError("Give BASE and HEAD, or --backends A B.")
    plan = Plan(spawns, blocks)
    if out is not None:
        _check_appendable(out)
    with _codes(repo, commits) as (names, codes):
        names = backends or names
        found = _measured(codes, cells, plan, backends, quiet=as_json)
        over = _over(found, fail_over)
        if over:
            again = _measured(codes, over, plan, backends, quiet=as_json)
            over = _over(again, fail_over)
            found += again
    document = _document(names, found, plan)
    if out is not None:
        with out.open("ab") as file:
            file.write(document + b"\n")
    if as_json:
        click.echo(document.decode())
    else:
        _show(names, found, plan)
    if over:
        click.echo(f"slower than {fail_over:g} times, twice: {'; '.join(map(str, over))}", err=True)
        sys.exit(1)


def _check_appendable(path: Path) -> None:
    """Refuse a file that cannot be appended to, before an hour is spent; nothing in it is ever replaced."""
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise InvalidInput(
            f"{path}: cannot be written ({error.strerror or error}).", hint="Name a file in a directory that exists."
        ) from error


@contextmanager
def _codes(repo: Path, commits: tuple[str, ...]) -> Iterator[tuple[tuple[str, str], dict[str, Code]]]:
    """The names of the sides, and their code."""
    from helora_harness.checkouts import code_at, code_here, resolve

    if not commits:
        with code_here(repo) as here:
            yield ("", ""), {"base": here, "again": here, "head": here}
        return
    base, head = (resolve(repo, name).hash for name in commits)
    with code_at(repo, base) as base_code, code_at(repo, head) as head_code:
        yield (base[:8], head[:8]), {"base": base_code, "again": base_code, "head": head_code}


def _measured(
    codes: dict[str, Code], cells: list[Cell], plan: Plan, backends: tuple[str, str] | None, *, quiet: bool
) -> list[Comparison]:
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from helora_harness.ab import compare
    from helora_harness.checkouts import Worker

    if backends:
        cells = list(dict.fromkeys(msgspec.structs.replace(cell, backend=backends[0]) for cell in cells))
    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("spawns", total=plan.spawns)
        return compare(
            lambda side: Worker(codes[side]),
            cells,
            plan,
            head_backend=backends[1] if backends else None,
            on_spawn=lambda: progress.advance(task),
        )


def _over(found: list[Comparison], limit: float | None) -> list[Cell]:
    """Cells whose slowdown is certainly larger than allowed."""
    if limit is None:
        return []
    return [each.cell for each in found if each.verdict == "slower" and each.time and each.time.low > limit]


def _document(names: tuple[str, str], found: list[Comparison], plan: Plan) -> bytes:
    """The comparison as one line of JSON."""
    import msgspec

    from helora_harness.machine import machine_facts

    document: dict[str, Any] = {
        "schema": 1,
        "base": names[0],
        "head": names[1],
        "confidence": plan.confidence,
        "spawns": plan.spawns,
        "date": datetime.now(timezone.utc),
        **machine_facts(),
        "cells": found,
    }
    return msgspec.json.encode(document)


def _show(names: tuple[str, str], found: list[Comparison], plan: Plan) -> None:
    from helora_core.cli.output import print_table
    from helora_core.cli.tables import Column, Table
    from helora_core.cli.terminal import say

    say(f"{names[1]} against {names[0]}, {plan.spawns} spawns, {plan.confidence:.0%} confidence", hanging=2)
    numbers = ("base ms", "head ms", "head / base", "A/A floor")
    columns = [Column("cell"), *(Column(heading, number=True) for heading in numbers), Column("verdict"),
               Column("because", prose=True)]  # fmt: skip
    rows = []
    for each in found:
        ms = ["–" if value is None else f"{value:.2f}" for value in (each.base_ms, each.head_ms)]
        ratios = ["–" if value is None else str(value) for value in (each.time, each.floor)]
        rows.append((str(each.cell), *ms, *ratios, each.verdict, "; ".join(each.causes)))
    print_table(Table(columns, rows, spare=("A/A floor", "because", "base ms", "head ms")))
