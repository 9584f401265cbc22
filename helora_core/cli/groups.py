"""A group of commands that names the closest one where there is none of a name."""

from __future__ import annotations

import difflib

import click


class Group(click.Group):
    """A group of commands: ``helora`` itself, and every command of it that has further ones."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"No such command {name!r}. {closest(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


def closest(name: str, known: list[str]) -> str:
    """What may have been meant, as a question, or all that there is."""
    near = difflib.get_close_matches(name, known, n=2)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"There {'is' if len(known) == 1 else 'are'} {', '.join(known) or 'none'}."
