"""Printing: JSON on standard output, tables for people, progress and warnings on standard error."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from helora_core.cli import terminal
from helora_core.cli.terminal import say

if TYPE_CHECKING:
    from helora_core.cli.tables import Table
    from helora_core.compiler.plan import Plan
    from helora_core.planning.selection import Selection


def print_json(data: object) -> None:
    """One JSON document on standard output, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(data), indent=2))


def print_table(table: Table) -> None:
    """A table on standard output with its legend; standard error names columns that its terminal has no room for.

    Raises:
        LookupError: The command that runs does not take ``--wide``, so that nobody could see all of the table.
    """
    from rich.console import Console

    from helora_core.cli.tables import drawn, fitted

    columns, wide = terminal.width(), _wide()
    shown = fitted(table, columns, wide=wide)
    room = None if wide else columns
    console = Console(file=sys.stdout, width=room or _UNBROKEN, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(drawn(shown, width=room, plain=columns is None))
    for line in capture.get().splitlines():
        click.echo(line.rstrip())
    if shown.legend:
        say(shown.legend, hanging=2)
    if columns is not None and shown.left_out:
        count = len(shown.left_out)
        more = f"--wide has {count} column{'s' * (count > 1)} more: {', '.join(shown.left_out)}"
        click.echo(more if len(more) <= columns else f"{more[: columns - 1]}…", err=True)


_UNBROKEN = 10_000
"""Columns of a file, a pipe or a terminal that is asked for all: more than any table has."""


def _wide() -> bool:
    """Whether ``--wide`` was given to the command that runs, if one does."""
    from helora_core.cli.options import WIDE

    context = click.get_current_context(silent=True)
    if context is None:
        return False
    if WIDE not in context.find_root().meta:
        raise LookupError(f"{context.command_path} prints a table, but does not take --wide")
    return bool(context.find_root().meta[WIDE])


def field(label: str, *sentences: str) -> None:
    """A label with its text beside it, or below one that is long; each sentence begins a line; nothing without one."""
    if len(label) >= _LABEL and sentences:
        say(f"  {label}")
        label = ""
    for i, sentence in enumerate(sentences):
        say(f"  {'' if i else label:<{_LABEL}}{sentence}", margin=_LABEL + 2)


_LABEL = 16
"""Columns of a label."""


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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(unit, total=total)
        yield lambda done: bar.advance(task, done)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says on standard error what is being done, with a moving sign, if it takes long and that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status(f"{what} …")
    timer = threading.Timer(_PATIENCE_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


_PATIENCE_S = 1.0
"""Seconds after which somebody who waits wants to know what for."""


def tell_selection(selection: Selection) -> None:
    """Print to standard error which backend ``auto`` chose, and why it skipped others."""
    if selection.skipped:
        skipped = "; ".join(f"{name}: {reason}" for name, reason in selection.skipped)
        say(f"backend {selection.name} (skipped {skipped})", err=True, hanging=2)


def tell_zeros(names: Sequence[str]) -> None:
    """Print to standard error which modules have a Δ of zero, so that nothing was run: the first few by name."""
    if names:
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        say(
            f"note: Δ = 0 whatever x is, for up, down or α are zero: {', '.join(names[:_FEW])}{more}. "
            "Nothing is encrypted or computed there.",
            err=True,
            hanging=2,
        )


_FEW = 3


def warn(message: str) -> None:
    """One warning on standard error."""
    say(f"warning: {message}", err=True, hanging=2, colour="yellow")


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


def counted(count: int, what: str) -> str:
    """A number of things, whose plural ends in s."""
    return f"{count} {what}{'s' * (count != 1)}"


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
