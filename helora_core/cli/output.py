"""Printing: JSON on standard output, tables for people, progress and warnings on standard error."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from helora_core.compiler.plan import Plan
    from helora_core.planning.selection import Selection

_GAP = 3
"""Columns between two cells of a table."""

_PIPE_WIDTH = 200
"""Columns assumed if output is not a terminal: a table in a file or a CI log should not be folded."""


def print_json(data: object) -> None:
    """One JSON document on standard output, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(data), indent=2))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    footer: bool = False,
    spare: Sequence[str] = (),
) -> None:
    """A table on standard output.

    Args:
        columns: Headings.
        rows: Cells, as many as columns.
        numbers: Headings of the columns that are aligned as numbers.
        footer: Set the last row apart, as a total.
        spare: Headings of the columns that a terminal too narrow for all is spared, the first one first. A note on
            standard error names them.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)
    rows = list(rows)
    left_out = _left_out(columns, rows, console.width, spare) if sys.stdout.isatty() else []
    kept = [i for i, column in enumerate(columns) if column not in left_out]
    table = Table(box=None if not sys.stdout.isatty() else _box(), pad_edge=False)
    for i in kept:
        table.add_column(columns[i], justify="right" if columns[i] in numbers else "left", overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*(row[i] for i in kept), end_section=footer and number == len(rows) - 2)
    console.print(table)
    if left_out:
        names = ", ".join(column for column in columns if column in left_out)
        click.echo(f"too narrow for {names}: --json or a pipe has them", err=True)


def _left_out(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, spare: Sequence[str]) -> list[str]:
    """The spare columns to leave out, so that the others fit the width unfolded if they can."""
    from rich.cells import cell_len

    widths = {name: max(map(cell_len, cells)) for name, *cells in zip(columns, columns, *rows, strict=True)}
    left_out: list[str] = []
    for name in spare:
        if sum(widths.values()) + _GAP * len(widths) <= width:
            break
        del widths[name]
        left_out.append(name)
    return left_out


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def token_progress(total_tokens: int) -> AbstractContextManager[Any]:
    """A progress bar of the tokens that were run."""
    return progress("tokens × modules", total_tokens)


@contextmanager
def progress(unit: str, total: int) -> Iterator[Any]:
    """A progress bar on standard error, shown only if that is a terminal; yields a function to advance it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(unit, total=total)
        yield lambda done: bar.advance(task, done)


def tell_selection(selection: Selection) -> None:
    """Print to standard error which backend ``auto`` chose, and why it skipped others."""
    if selection.skipped:
        skipped = "; ".join(f"{name}: {reason}" for name, reason in selection.skipped)
        click.echo(f"backend {selection.name} (skipped {skipped})", err=True)


def tell_zeros(names: Sequence[str]) -> None:
    """Print to standard error which modules have a Δ of zero, so that nothing was run: the first few by name."""
    if names:
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        click.echo(
            f"note: Δ = 0 whatever x is, for up, down or α are zero: {', '.join(names[:_FEW])}{more}. "
            "Nothing is encrypted or computed there.",
            err=True,
        )


_FEW = 3


def warn(message: str) -> None:
    """One warning on standard error."""
    click.secho(f"warning: {message}", fg="yellow", err=True)


def warn_of_security(plans: Iterable[Plan], *, backend: str = "", secure: bool = True) -> None:
    """Warn about what running some plans does not protect, if anything: each warning once.

    Args:
        plans: The plans.
        backend: Where they are run.
        secure: Whether it encrypts at all.
    """
    from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS, keeps_weights_private

    if not secure:
        warn(f"backend {backend} is an emulation: nothing was encrypted.")
    said: list[str] = []
    for plan in plans:
        leakage = plan.packing.leakage
        if not keeps_weights_private(leakage):
            said.append(f"WEIGHTS NOT PRIVATE: packing {plan.packing.name}: {leakage.explanation}")
        bits = plan.sanitize_bits or 0
        if leakage.needs_sanitize and not bits:
            said.append("WEIGHTS NOT PRIVATE: results are not sanitised: their polynomials show weights.")
        elif leakage.needs_sanitize and bits < DEFAULT_SANITIZE_BITS:
            said.append(f"results are sanitised to {bits} bits, fewer than {DEFAULT_SANITIZE_BITS}.")
    for message in dict.fromkeys(said):
        warn(message)


def seconds(milliseconds: float) -> str:
    """Milliseconds for a table cell."""
    if 0 < milliseconds < 0.05:
        return f"{milliseconds:.3f}"
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:.1f}"


def amount(count: float) -> str:
    """A count or rate for a table cell, without needless decimals."""
    return f"{count:g}" if count == int(count) else f"{count:.2f}"


def size(count: float) -> str:
    """Bytes for a table cell, in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
