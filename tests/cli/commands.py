"""Every command of ``helora``, found by asking the command line itself: plugins' too, and those of groups."""

from __future__ import annotations

from collections.abc import Iterator

import click

from helora_core.cli.main import main


def commands() -> dict[tuple[str, ...], click.Command]:
    """All commands that are no groups, by the words that call them."""
    return {words: command for words, command in _below(main, ()) if not isinstance(command, click.Group)}


def groups() -> dict[tuple[str, ...], click.Group]:
    """All groups, ``helora`` itself by no word."""
    return {words: command for words, command in [((), main), *_below(main, ())] if isinstance(command, click.Group)}


def _below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from _below(command, (*words, name))


def options(command: click.Command) -> set[str]:
    """Every spelling of its options."""
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")} | {
        "--help"
    }
