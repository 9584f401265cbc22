"""The terminal that standard output and standard error may be: its width, and lines that fit it."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TextIO

import click

_USUAL = 80
"""Columns of a terminal that does not say how many it has."""

_NARROWEST = 20

LONGEST_LINE = 100
"""Columns that prose takes at most, however wide the terminal is: longer lines are hard to read."""


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal that a stream writes to, standard output by default; None if it is none.

    ``$COLUMNS`` comes first, as in most programs.
    """
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return None
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return max(int(asked), _NARROWEST)
    try:
        return max(os.get_terminal_size(stream.fileno()).columns or _USUAL, _NARROWEST)
    except (OSError, ValueError):
        return _USUAL


def wrapped(text: str, columns: int | None, *, hanging: int = 0, margin: int | None = None) -> str:
    """Lines of prose that fit, each line of ``text`` broken on its own; words stay whole.

    Args:
        text: What to break; its own leading spaces are kept, for continuations too.
        columns: Columns of the terminal; None to break nothing.
        hanging: Spaces before continuations, besides.
        margin: Spaces before continuations, instead of all these.
    """
    if columns is None:
        return text
    lines: list[str] = []
    room = min(columns, LONGEST_LINE)
    for line in text.split("\n"):
        if len(line) <= room:
            lines.append(line)
            continue
        own = len(line) - len(line.lstrip(" ")) if margin is None else 0
        # Spaces that align columns within the line stay: it is broken after them.
        head = line[: margin or own]
        body = line[len(head) :]
        lines += textwrap.wrap(
            body,
            room,
            initial_indent=head,
            subsequent_indent=" " * (own + hanging if margin is None else margin),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def say(
    text: str, *, err: bool = False, hanging: int = 0, margin: int | None = None, colour: str | None = None
) -> None:
    """Print prose, in lines that fit the terminal; whole where there is none."""
    lines = wrapped(text, width(sys.stderr if err else sys.stdout), hanging=hanging, margin=margin)
    click.echo(click.style(lines, fg=colour) if colour else lines, err=err)
