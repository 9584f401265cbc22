"""Shows answers as they are written: side by side on a wide terminal, otherwise one under the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from helora_transformers.cli.options import plain

if TYPE_CHECKING:
    from helora_transformers.modes import Variant

_WIDE = 100
"""Columns from which answers are shown side by side."""


class View(Protocol):
    """Where answers are shown."""

    def begin(self, variant: Variant) -> None:
        """What follows is this variant's."""
        ...

    def add(self, piece: str) -> None:
        """A piece of its text."""
        ...

    def end(self) -> None:
        """Its text has ended."""
        ...


@contextmanager
def viewing(variants: Sequence[Variant], *, hidden: bool) -> Iterator[View]:
    """The way to show answers of some variants that fits standard output."""
    if hidden:
        yield _Hidden()
    elif sys.stdout.isatty() and len(variants) > 1 and (width := _width()) >= _WIDE:
        with _side_by_side(variants, width) as view:
            yield view
    else:
        yield _OneByOne(alone=len(variants) == 1)


def say(line: str, *, err: bool = False, **style: Any) -> None:
    """Print a line, folded between words if it goes to a terminal that is too narrow."""
    if (sys.stderr if err else sys.stdout).isatty():
        import textwrap

        line = textwrap.fill(
            line, _width(), subsequent_indent="    ", drop_whitespace=True, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
    click.secho(line, err=err, **style)


def _width() -> int:
    from rich.console import Console

    return Console().width


class _Hidden:
    """Nothing is shown: the answers are printed as JSON."""

    def begin(self, variant: Variant) -> None: ...

    def add(self, piece: str) -> None: ...

    def end(self) -> None: ...


class _OneByOne:
    """Labels, and text below them."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone

    def begin(self, variant: Variant) -> None:
        if not self._alone:
            click.secho(variant.label, bold=True)

    def add(self, piece: str) -> None:
        click.echo(plain(piece), nl=False)

    def end(self) -> None:
        click.echo()


class _Columns:
    """A column for each variant."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._texts = dict.fromkeys(variants, "")
        self._live: Any = None
        self._variant = variants[0]

    def begin(self, variant: Variant) -> None:
        self._variant = variant

    def add(self, piece: str) -> None:
        self._texts[self._variant] += plain(piece)
        self._live.update(self)

    def end(self) -> None:
        self._live.refresh()

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, expand=True, padding=(0, 2, 0, 0))
        for variant in self._texts:
            table.add_column(variant.label, ratio=1, overflow="fold")
        table.add_row(*(Text(text.strip("\n")) for text in self._texts.values()))
        return table


@contextmanager
def _side_by_side(variants: Sequence[Variant], width: int) -> Iterator[View]:
    from rich.console import Console
    from rich.live import Live

    columns = _Columns(variants)
    console = Console(width=width, highlight=False, markup=False)
    with Live(columns, console=console, refresh_per_second=10, redirect_stdout=False, redirect_stderr=False) as live:
        columns._live = live
        yield columns
