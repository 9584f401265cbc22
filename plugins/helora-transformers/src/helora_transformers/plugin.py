"""What the plugin offers to helora: commands. Their modules are light; torch is imported when one runs."""

from __future__ import annotations

from collections.abc import Iterable

import click

from helora_core.hookspecs import hookimpl
from helora_transformers.cli.chat import chat
from helora_transformers.cli.generate import generate
from helora_transformers.cli.model import model
from helora_transformers.link.cli import link


@hookimpl
def helora_cli_commands() -> Iterable[click.Command]:
    """``helora link``, ``helora generate``, ``helora chat``, ``helora model``."""
    return [link, generate, chat, model]
