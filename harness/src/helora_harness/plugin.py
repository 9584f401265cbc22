"""The plugin that adds ``helora bench`` to the command line."""

from __future__ import annotations

from collections.abc import Iterator

import click

from helora_core.hookspecs import hookimpl


@hookimpl
def helora_cli_commands() -> Iterator[click.Command]:
    """``bench``, imported when the command line is built."""
    from helora_harness.bench.cli import bench

    yield bench
