"""Tables for people: which rows are told as one, which columns a terminal has room for, and what is drawn.

A command hands over a ``Table``: columns, the rows' values, and in which order columns may be left out. All else is
decided here, for every command alike:

- Rows that differ in nothing but the module and what was measured are one row, as soon as there are many: the modules'
  names become a pattern, measured values their median with the least and the most.
- A terminal too narrow for all columns is spared some, in the table's own order, in which the beginning that all names
  of modules have in common has its place too.
- Prose is broken between words, in the room that is left.

Nothing is left out or told as one with ``--wide``, and nothing is left out where there is no terminal.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.table

GAP = 2
"""Columns between two cells."""

MANY_ROWS = 8
"""Tables with more rows than this have equal ones folded."""

BEGINNINGS = "…"
"""Stands in ``Table.spare`` for what all names of modules begin with."""

_ALIKE = 0.01
"""Measured values that differ by less than this part of their median are told by the median alone."""

_PROSE = 36
"""Columns that prose needs at least."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        heading: Its heading.
        show: Makes a cell of a value.
        number: Whether it is aligned as numbers are.
        measured: Whether its values are numbers that equal modules differ in.
        prose: Whether it may be broken between words.
        legend: What the heading means, in a few words for the line below the table; columns may have the same.
    """

    heading: str
    show: Callable[[Any], str] = str
    number: bool = False
    measured: bool = False
    prose: bool = False
    legend: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Its columns.
        rows: The values of each row, as many as columns.
        total: The cells of a last row that is set apart; None for none.
        spare: Headings of the columns that a narrow terminal is spared, the first one first; where ``BEGINNINGS``
            stands among them, or else last, the beginning that all names of modules have in common is spared.
        names: Heading of the column of modules' names, by which rows are folded; empty if none are.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    total: Sequence[str] | None = None
    spare: Sequence[str] = ()
    names: str = ""

    @classmethod
    def of_text(
        cls, headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = (), **others: Any
    ) -> Table:
        """A table of ready cells, with those headings aligned as numbers."""
        return cls([Column(heading, number=heading in numbers) for heading in headings], rows, **others)


@dataclass(frozen=True)
class Fitted:
    """A table as it is drawn.

    Attributes:
        columns: The columns that there is room for.
        rows: Their cells.
        total: The cells of the last row, which is set apart; None for none.
        left_out: Headings of the columns that there is no room for.
        folded: Whether some rows stand for several.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None
    left_out: tuple[str, ...] = ()
    folded: bool = False

    @property
    def legend(self) -> str:
        """What the headings that are shown mean; empty if they speak for themselves."""
        several = ["a row of several modules: median (least–most), --wide has each"] * self.folded
        return "; ".join(dict.fromkeys([*(column.legend for column in self.columns if column.legend), *several]))


def fitted(table: Table, width: int | None, *, wide: bool = False) -> Fitted:
    """The table as it is drawn in a terminal of ``width`` columns, or in none.

    Args:
        table: The table.
        width: Columns of the terminal; None if there is none, so that lines may be as long as they like.
        wide: Show all columns and every row, whatever the width.
    """
    told, folded = ([[row] for row in table.rows], False) if wide else _folded(table)
    rows = [[_cell(table, i, [row[i] for row in rows]) for i in range(len(table.columns))] for rows in told]
    whole = Fitted(
        tuple(table.columns), tuple(map(tuple, rows)), None if table.total is None else tuple(table.total), (), folded
    )
    return whole if wide or width is None else _narrowed(table, whole, width)


def drawn(table: Fitted, *, width: int | None, plain: bool) -> rich.table.Table:
    """The table for rich.

    Args:
        table: What to draw.
        width: Columns that it may take; None for as many as it needs.
        plain: Without rules.
    """
    from rich import box
    from rich.table import Table as Drawn

    inner = (0, GAP if plain else GAP - 1, 0, 0)  # a rule's column stands between cells
    result = Drawn(box=None if plain else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=inner)
    for column in table.columns:
        result.add_column(
            column.heading,
            justify="right" if column.number else "left",
            no_wrap=not column.prose or width is None,
            overflow="ignore" if width is None else "fold",
        )
    for number, row in enumerate(table.rows, start=1):
        result.add_row(*row, end_section=table.total is not None and number == len(table.rows))
    if table.total is not None:
        result.add_row(*table.total)
    return result


def _cell(table: Table, i: int, values: Sequence[Any]) -> str:
    """The cell of one row, or of several that are folded."""
    column = table.columns[i]
    if len(values) == 1:
        return column.show(values[0])
    if column.heading == table.names:
        return f"{len(values)} × {pattern(values)}"
    return _spread(column, values) if column.measured else column.show(values[0])


def _spread(column: Column, values: Sequence[Any]) -> str:
    """The median, and in brackets the least and the most if they differ by more; a unit is not said twice."""
    middle, least, most = statistics.median(values), min(values), max(values)
    if most - least <= _ALIKE * abs(middle):
        return column.show(middle)
    return _range(column.show(middle), column.show(least), column.show(most))


def _range(middle: str, least: str, most: str) -> str:
    number, space, unit = least.partition(" ")
    return f"{middle} ({number if space and most.endswith(f' {unit}') else least}–{most})"


def _folded(table: Table) -> tuple[list[list[Sequence[Any]]], bool]:
    """The rows, those that differ only in name and measured values together; and whether any are."""
    alone = [[row] for row in table.rows]
    if not table.names or len(alone) <= MANY_ROWS:
        return alone, False
    alike = [i for i, column in enumerate(table.columns) if column.heading != table.names and not column.measured]
    kinds: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
    for row in table.rows:
        kinds.setdefault(tuple(table.columns[i].show(row[i]) for i in alike), []).append(row)
    return list(kinds.values()), len(kinds) < len(alone)


def pattern(names: Sequence[str]) -> str:
    """One name for several modules: what differs in them is ``*``, or in braces if it is two or three words.

    ``--module`` takes it, as ``helora_core.adapter.names.matches`` does.
    """
    split = [name.split(".") for name in dict.fromkeys(names)]
    if len({len(parts) for parts in split}) > 1:
        ending = _common([parts[::-1] for parts in split])[::-1]
        return ".".join(ending if len(ending) == min(map(len, split)) else ["*", *ending])
    return ".".join(_component(list(dict.fromkeys(each))) for each in zip(*split, strict=True))


def _component(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return "*" if len(parts) > 3 or any(part.isdecimal() for part in parts) else f"{{{','.join(parts)}}}"


def _common(split: Sequence[Sequence[str]]) -> list[str]:
    """The components that all begin with."""
    common = []
    for each in zip(*split, strict=False):
        if len(set(each)) > 1:
            break
        common.append(each[0])
    return common


def _narrowed(table: Table, whole: Fitted, width: int) -> Fitted:
    """Without what is spared first, for which there is no room; the names as long as there is room for."""
    by_length = list(_by_length_of_names(table, whole))
    spare = [*table.spare] if BEGINNINGS in table.spare else [*table.spare, BEGINNINGS]
    for given_up in range(len(spare) + 1):
        gone = spare[:given_up]
        kept = [_without(each, gone) for each in (by_length if BEGINNINGS in gone else by_length[:1])]
        fitting = next((each for each in kept if _width(each) <= width), None)
        if fitting is not None:
            return fitting
    return kept[-1]


def _by_length_of_names(table: Table, whole: Fitted) -> Iterator[Fitted]:
    """The table with the names of modules whole, then without one component after another that all begin with."""
    yield whole
    if not table.names:
        return
    at = [column.heading for column in table.columns].index(table.names)
    split = [row[at].rpartition(" × ") for row in whole.rows]
    names = [name.split(".") for _, _, name in split]
    most = min([len(_common(names)), *(len(parts) - 1 for parts in names)])
    for dropped in range(1, most + 1):
        rows = [
            (*row[:at], f"{count}{times}{'.'.join(parts[dropped:])}", *row[at + 1 :])
            for row, (count, times, _), parts in zip(whole.rows, split, names, strict=True)
        ]
        yield replace(whole, rows=tuple(rows))


def _without(table: Fitted, spared: Sequence[str]) -> Fitted:
    kept = [i for i, column in enumerate(table.columns) if column.heading not in spared]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
        total=None if table.total is None else tuple(table.total[i] for i in kept),
        left_out=tuple(column.heading for column in table.columns if column.heading in spared),
    )


def _width(table: Fitted) -> int:
    """Columns that it takes; of prose the least that it needs."""
    from rich.cells import cell_len

    lines = [*table.rows, *([] if table.total is None else [table.total])]
    needed = 0
    for i, column in enumerate(table.columns):
        widest = max(map(cell_len, [column.heading, *(line[i] for line in lines)]))
        needed += min(widest, _PROSE) if column.prose else widest
    return needed + GAP * (len(table.columns) - 1)
