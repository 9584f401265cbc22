"""``helora bench micro``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from helora_core.cli.numbers import Whole
from helora_core.cli.options import as_json, wide
from helora_core.cli.terminal import say
from helora_harness.bench.cli_rows import again_option, out_option, tell_exercised, tell_file, warn_of_emulations
from helora_harness.places import REPO

if TYPE_CHECKING:
    from helora_harness.bench.micro import Measured
    from helora_harness.rows import Row


@click.command()
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="May be given several times; by default all backends, those that cannot be used here by name.",
)
@click.option(
    "--ring",
    "rings",
    type=Whole(2),
    multiple=True,
    metavar="N",
    help="Ring degree; may be given several times. By default 8192 and 16384.",
)
@click.option(
    "--level",
    "levels",
    type=Whole(0),
    multiple=True,
    metavar="L",
    help="Time operations at this level, which leaves L+1 primes; may be given several times. "
    "By default all levels of a chain of 3 primes.",
)
@click.option(
    "--rounds",
    type=Whole(1),
    default=15,
    show_default=True,
    metavar="R",
    help="How often to time each operation.",
)
@out_option
@again_option
@wide
@as_json
def micro(
    backends: tuple[str, ...], rings: tuple[int, ...], levels: tuple[int, ...], rounds: int, out: Path, again: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Time single operations: encode, encrypt, decrypt, ct×pt, add, rotate, rescale, serialise.

    By backend, ring and level; medians and minima over rounds that do each operation once, in an order shuffled anew.
    The exit status is 1 if nothing could be measured.
    """
    from helora_core.cli.output import progress
    from helora_core.host.manager import get_manager
    from helora_harness.bench import record
    from helora_harness.bench.micro import DEFAULT_RINGS, measure
    from helora_harness.checkouts import Worker, code_here

    manager = get_manager()
    present, missing = record.usable(backends or manager.backends())
    rings = tuple(dict.fromkeys(rings or DEFAULT_RINGS))
    of = record.origin()
    file = record.Record(out, again=again)
    total = len(present) * len(rings) * rounds
    with record.resumable(out, of), code_here(REPO) as code, progress("rounds", total) as advance:
        found = list(
            measure(present, rings, levels, rounds, file, of, lambda: Worker(code), on_round=lambda: advance(1))
        )
    if as_json:
        _print_json(out, found, missing)
    else:
        _print(out, found, of.dirty)
        tell_exercised(present, missing)
    warn_of_emulations(present, "these are not the times of encryption")
    sys.exit(all(each.row is None for each in found))


def _print_json(out: Path, found: Sequence[Measured], missing: dict[str, str]) -> None:
    from helora_core.cli.output import print_json
    from helora_harness.bench.micro import SCHEMA

    rows = [each.row for each in found if each.row is not None]
    where = [(each, {"backend": each.backend, "ring_degree": each.ring_degree}) for each in found]
    print_json(
        {
            "schema": SCHEMA,
            "file": str(out),
            "rows": rows,
            "resumed": [cell for each, cell in where if each.resumed],
            "refused": [{**cell, "reason": each.refused} for each, cell in where if each.refused],
            "absent": missing,
            "best": {
                f"{name} N={ring_degree}": {"backend": row.cell.backend, "ms": row.metrics[name]}
                for ring_degree in sorted({row.provenance.ring_degree for row in rows})
                for name, row in _fastest([row for row in rows if row.provenance.ring_degree == ring_degree])
            },
        }
    )


def _fastest(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Each median of the rows of one ring, and the row where it is least."""
    for name in dict.fromkeys(name for row in rows for name in row.metrics if "_ms@" in name and "_min_" not in name):
        yield name, min((row for row in rows if name in row.metrics), key=lambda row: row.metrics[name])


def _print(out: Path, found: Sequence[Measured], dirty: bool) -> None:
    from helora_core.cli.output import print_table
    from helora_core.cli.tables import Table

    rows = [each.row for each in found if each.row is not None]
    for ring_degree in dict.fromkeys(row.provenance.ring_degree for row in rows):
        ours = [row for row in rows if row.provenance.ring_degree == ring_degree]
        names = dict.fromkeys(name for row in ours for name in row.metrics if "_ms@" in name and "_min_" not in name)
        headings = [f"{row.cell.backend} {what}" for row in ours for what in ("median", "min")]
        say(f"\nN = {ring_degree}, ms per operation; {'; '.join(map(_chain, ours))}", hanging=2)
        cells = [_line(name, ours) for name in sorted(names, key=_by_operation)]
        spare = [*headings[1::2], *headings[:0:-2]]  # the minima, then whole backends from the last one on
        print_table(Table.of_text(("operation", "level", *headings), cells, numbers=("level", *headings), spare=spare))
    for each in found:
        if each.refused:
            say(f"not measured, {each.backend} at N = {each.ring_degree}: {each.refused}", err=True)
    tell_file(out, "rows", [each.resumed for each in found], dirty=dirty)


def _chain(row: Row) -> str:
    of = row.provenance
    primes = "+".join(map(str, of.modulus_bits))
    return f"{row.cell.backend}: {of.library} {of.library_version}, primes of {primes} bits, {of.threads} thread"


def _by_operation(name: str) -> tuple[str, int]:
    operation, _, level = name.partition("_ms@")
    return operation, -int(level)


def _line(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    operation, _, level = name.partition("_ms@")
    values = (row.metrics.get(each) for row in rows for each in (name, f"{operation}_min_ms@{level}"))
    return operation.replace("_", " "), level, *("–" if value is None else f"{value:.4f}" for value in values)
