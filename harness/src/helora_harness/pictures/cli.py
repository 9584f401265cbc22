"""``helora bench pictures``.

``render`` writes the pictures of the documentation, ``check`` compares them, ``record`` runs the demo that one shows.
"""

from __future__ import annotations

import sys

import click
import msgspec

from helora_core.cli.groups import Group
from helora_core.cli.numbers import Whole
from helora_harness.pictures import gallery, terminal


@click.group("pictures", cls=Group)
def pictures_group() -> None:
    """The pictures of the documentation, drawn from the compiler's plans."""


@pictures_group.command()
def render() -> None:
    """Write docs/assets."""
    for path, text in gallery.files():
        path.write_text(text, encoding="utf-8")
        click.echo(path.name)


@pictures_group.command()
@click.option("--runs", type=Whole(1), default=9, show_default=True, help="Runs, of which the fastest is shown.")
def record(runs: int) -> None:
    """Run the demo in a terminal and keep what it shows in harness/demo.json."""
    found = terminal.record(runs)
    terminal.RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    click.echo(terminal.plain(found.screen))


@pictures_group.command()
def check() -> None:
    """Fail if a committed picture is not what is drawn."""
    broken = gallery.outdated()
    for name in broken:
        click.echo(f"BROKEN docs/assets/{name} is not what is drawn: run render")
    sys.exit(1 if broken else 0)
