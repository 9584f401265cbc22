"""What the plugin offers to helora: commands. Their modules are light; what is heavy is imported when one runs."""

from __future__ import annotations

from collections.abc import Iterable

import click

from helora_core.hookspecs import hookimpl
from helora_serve.cli import serve, token
from helora_serve.proxy.cli import proxy


@hookimpl
def helora_cli_commands() -> Iterable[click.Command]:
    """``helora serve``, ``helora token``, ``helora proxy``."""
    return [serve, token, proxy]
