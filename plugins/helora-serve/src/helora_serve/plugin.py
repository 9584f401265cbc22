"""What the plugin offers to helora: commands. Their modules are light; the server is imported when it runs."""

from __future__ import annotations

from collections.abc import Iterable

import click

from helora_core.hookspecs import hookimpl
from helora_serve.cli import serve, token


@hookimpl
def helora_cli_commands() -> Iterable[click.Command]:
    """``helora serve``, ``helora token``."""
    return [serve, token]
