"""Messages that are typed, or come through a pipe, and the key that cancels an answer."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

HELP = "/report what it took so far, /reset to begin anew, /quit or Ctrl-D to end; Ctrl-C cancels an answer"
_PROMPT = "> "


def messages(*, at_terminal: bool, as_json: bool) -> Iterator[str]:
    """What is typed, or the lines of standard input, until its end.

    Args:
        at_terminal: Whether somebody types.
        as_json: Whether standard output is for machines.
    """
    if not at_terminal:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
        return
    with suppress(ImportError):
        import readline  # noqa: F401 - input() edits lines with it
    while True:
        try:
            if as_json or not sys.stdout.isatty():
                click.echo(_PROMPT, nl=False, err=True)
                yield input()
            else:
                yield input(_PROMPT)
        except KeyboardInterrupt:
            click.echo(f"\n{HELP}", err=True)
        except EOFError:
            click.echo(err=True)
            return


class Interrupted:
    """Whether Ctrl-C was pressed. No ``Event``: its lock might be held by what the handler interrupts."""

    def __init__(self) -> None:
        self._times = 0

    def is_set(self) -> bool:
        return self._times > 0

    def note(self, *_: object) -> None:
        self._times += 1
        if self._times > 1:  # whoever presses it again will not wait for a token
            raise KeyboardInterrupt


@contextmanager
def cancelling() -> Iterator[Interrupted]:
    """While this is open, Ctrl-C is noted."""
    interrupted = Interrupted()
    before = signal.signal(signal.SIGINT, interrupted.note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
