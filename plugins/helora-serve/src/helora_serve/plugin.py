"""What the plugin offers to helora: commands. Their modules are light; what is heavy is imported when one runs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import click

from helora_core.errors import PluginLoadError
from helora_core.hookspecs import hookimpl
from helora_serve.cli import serve, token


@hookimpl
def helora_cli_commands() -> Iterable[click.Command]:
    """``helora serve``, ``helora token``, ``helora proxy``."""
    if find_spec("helora_transformers") is None:  # which a server does not need
        return [serve, token, _unavailable_proxy]
    from helora_serve.proxy.cli import proxy

    return [serve, token, proxy]


@click.command("proxy", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def _unavailable_proxy(words: tuple[str, ...]) -> None:
    """Speak OpenAI's API for a model here; needs helora-transformers."""
    raise PluginLoadError(
        "helora proxy runs the base model with helora-transformers, which is not installed.",
        hint="Install helora-serve[proxy], and torch.",
    )
