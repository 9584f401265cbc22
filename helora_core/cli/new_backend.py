"""``helora new-backend``."""

from __future__ import annotations

from pathlib import Path

import click

from helora_core.cli import options


@click.command("new-backend")
@click.argument("name")
@click.option(
    "-d",
    "--directory",
    default=".",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to put the folder helora-NAME; by default here.",
)
@options.as_json
def new_backend(name: str, directory: Path, as_json: bool) -> None:
    """Start a backend for another CKKS library.

    Makes a distribution helora-NAME, which emulates at first and passes the conformance kit immediately. A mark stands
    wherever a call of the library belongs. Nothing is overwritten.
    """
    from helora_core.cli import terminal
    from helora_core.cli.output import print_json
    from helora_core.host.manager import get_manager
    from helora_core.host.scaffold import left_to_fill_in
    from helora_core.host.scaffold import new_backend as render

    manager = get_manager()
    taken = {*manager.backends(), *(origin.plugin for origin in manager.plugins)}
    folder = render(name, directory, taken=taken)
    marks = left_to_fill_in(folder)
    if as_json:
        fill_in = [{"number": mark.number, "path": mark.path, "line": mark.line, "what": mark.what} for mark in marks]
        print_json({"distribution": folder.name, "directory": str(folder), "backend": name, "fill_in": fill_in})
        return
    wrote = f"wrote {folder}: an emulation that passes the kit, for you to put a library into.\n"
    click.echo(terminal.wrapped(wrote, terminal.width()))
    click.echo(f"  cd {folder}")
    click.echo("  pip install -e . hypothesis pytest")
    click.echo(f"  helora conform {name}")
    click.echo("  pytest")
    click.echo("\nTo fill in, in the order in which that goes best (pytest lists what is left):\n")
    for mark in marks:
        line = f"  {mark.number:>2}  {mark.what}  ({mark.path}:{mark.line})"
        click.echo(terminal.wrapped(line, terminal.width(), margin=6))
