"""A plugin whose hooks answer, but not with what they should."""

import click

from helora_core.hookspecs import hookimpl


@hookimpl
def helora_backends():
    yield {"name": "a dict is no spec"}


@hookimpl
def helora_packings():
    return 7


@hookimpl
def helora_cli_commands():
    yield click.Command(None)


@hookimpl
def helora_telemetry_sinks():
    yield None
