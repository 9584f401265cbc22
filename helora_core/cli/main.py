"""``helora``: finds the commands, imports each only when it is used, and prints errors as messages.

``helora --help`` must answer at once, so command modules import nothing heavy at their top: numpy, rich and the plans
are imported inside the callbacks.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from helora_core import __version__
from helora_core.cli.groups import Group
from helora_core.cli.options import JSON_ASKED
from helora_core.cli.terminal import say, width, wrapped
from helora_core.errors import HeloraError, InvalidInput

_COMMANDS = (
    "backends", "calibrate", "compile", "conform", "demo", "doctor", "explain", "new-backend", "packings", "plan",
    "predict", "run",
)  # fmt: skip


_OF_PLUGINS = {
    "chat": "lm", "generate": "lm", "link": "lm", "model": "lm",
    "proxy": "proxy", "serve": "serve", "token": "serve",
}  # fmt: skip
"""Extras that bring the commands of our plugins."""

USAGE_ERROR = "usage-error"
"""Code of a wrong command line; its exit status is 2."""


class _Commands(Group):
    """Core's commands by name, then those of plugins. Only the command asked for is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_COMMANDS, *_plugin_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            name = cmd_name.replace("-", "_")
            command: click.Command = getattr(importlib.import_module(f"helora_core.cli.{name}"), name)
            return command
        return _plugin_commands().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        extra = _OF_PLUGINS.get(args[0])
        if extra and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            from helora_core.installing import install_line

            left_out = (
                "; or name its plugin in HELORA_PLUGINS, which is set" if os.environ.get("HELORA_PLUGINS") else ""
            )
            raise click.UsageError(f"The plugin of {args[0]!r} is not here: {install_line(extra)}{left_out}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A broken helora.toml, for example, is refused before the command itself has parsed its options.
        ctx.meta[JSON_ASKED] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _complain(error, ctx)
        except HeloraError as error:
            _refuse(error, as_json=bool(ctx.meta.get(JSON_ASKED)))
        except OSError as error:
            if isinstance(error, BrokenPipeError) or error.filename is None:
                raise
            _refuse(_of_file(error), as_json=bool(ctx.meta.get(JSON_ASKED)))
        ctx.exit(1)


def _plugin_commands() -> dict[str, click.Command]:
    from helora_core.host.manager import get_manager

    return {command.name: command for command in get_manager().cli_commands() if command.name}


def _complain(error: click.UsageError, ctx: click.Context) -> NoReturn:
    """Say what is wrong with the command line: to programs if they asked, otherwise in lines that fit the terminal."""
    of = error.ctx or _called(ctx)
    if ctx.meta.get(JSON_ASKED):
        from helora_core.cli.output import print_json

        hint = f"{of.command_path} --help lists what it takes."
        print_json({"error": {"code": USAGE_ERROR, "message": _as_text(error.format_message()), "hint": hint}})
        ctx.exit(2)
    lines = wrapped(f"Error: {error.format_message()}", width(sys.stderr), hanging=2)
    raise click.UsageError(lines.removeprefix("Error: "), of) from error


def _called(ctx: click.Context) -> click.Context:
    """The context of the command that was called, as far as click has noted it."""
    command = ctx.command.get_command(ctx, ctx.invoked_subcommand or "") if isinstance(ctx.command, Group) else None
    return click.Context(command, parent=ctx, info_name=ctx.invoked_subcommand) if command else ctx


def _of_file(error: OSError) -> InvalidInput:
    """What to say where a file or folder could not be read or written, and no command says it in better words."""
    return InvalidInput(
        f"{error.filename}: cannot be read or written ({error.strerror or error}).",
        hint="Check that it is there, of the right kind, and yours to read or write.",
    )


def _refuse(error: HeloraError, *, as_json: bool) -> None:
    if as_json:
        from helora_core.cli.output import print_json

        print_json({"error": {"code": error.code, "message": _as_text(error.message), "hint": _as_text(error.hint)}})
        return
    what = f"error [{error.code}]"
    lines = wrapped(f"{what} {error.message}", width(sys.stderr), hanging=2)
    click.echo(click.style(what, fg="red", bold=True) + lines.removeprefix(what), err=True)
    say(f"  hint: {error.hint}", err=True, hanging=2)


def _as_text(message: str) -> str:
    """The message in Unicode: file names may have other bytes, for which Python uses surrogates."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="helora")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run LoRA adapters over encrypted activations, on any CKKS library.

    Start with `helora demo`. Most commands take --json; refusals then are a JSON object with code, message and
    hint, and the exit status is 1. Defaults come from helora.toml, as in: ring = 16384
    """
    from helora_core.cli.config import read_defaults

    ctx.default_map = {ctx.invoked_subcommand or "": read_defaults()}
