"""``helora bench pictures``: ``render`` writes the pictures of the documentation, ``check`` compares them."""

from __future__ import annotations

import sys

import click

from helora_harness.pictures import gallery


@click.group("pictures")
def pictures_group() -> None:
    """The pictures of the documentation, drawn from the compiler's plans."""


@pictures_group.command()
def render() -> None:
    """Write docs/assets."""
    for path, text in gallery.files():
        path.write_text(text, encoding="utf-8")
        click.echo(path.name)


@pictures_group.command()
def check() -> None:
    """Fail if a committed picture is not what is drawn."""
    broken = gallery.outdated()
    for name in broken:
        click.echo(f"BROKEN docs/assets/{name} is not what is drawn: run render")
    sys.exit(1 if broken else 0)
