"""Commands that show result rows: ``history`` makes or serves the site, ``export`` writes asv, CSV or HTML files.

They are ``helora bench history`` and ``helora bench export``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from helora_core.cli import terminal
from helora_core.cli.numbers import Whole
from helora_core.cli.options import as_json
from helora_core.cli.options import force as force_option
from helora_harness.places import HISTORY


def _of_rows(command: Callable[..., None]) -> Callable[..., None]:
    rows = click.option(
        "--rows", "paths", multiple=True, type=click.Path(path_type=Path, exists=True),
        help="A file of rows, or a directory of *.jsonl and *.deltas; may be given again.  [default: harness/history]",
    )  # fmt: skip
    repo = click.option(
        "--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), show_default=True,
        help="The git repository of the commits.",
    )  # fmt: skip
    return rows(repo(command))


def _read(paths: tuple[Path, ...]) -> list[Any]:
    from helora_harness.deltas import SUFFIX, read_deltas
    from helora_harness.rows import RowsRefused, read_rows

    def within(folder: Path) -> list[Path]:
        return sorted(path for path in folder.iterdir() if path.suffix in (".jsonl", SUFFIX))

    files = [file for path in paths or (HISTORY,) for file in (within(path) if path.is_dir() else [path])]
    if not files or not all(file.exists() for file in files):
        raise RowsRefused("There are no rows to show.", hint="Measure some, or name a file of rows with --rows.")
    return [row for file in files for row in (read_deltas if file.suffix == SUFFIX else read_rows)(file)]


@click.command()
@_of_rows
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Keep the site in this directory.")
@click.option("--serve", "port", type=Whole(0, 65535), help="Serve it to this machine at this port; 0: any.")
@force_option
@as_json
def history(
    paths: tuple[Path, ...], repo: Path, out: Path | None, port: int | None, force: bool, as_json: bool
) -> None:
    """Make the history site of all rows, and keep it or serve it."""
    from helora_core.cli.output import print_json
    from helora_harness.history_site import build_site, serve

    if out is None and port is None:
        raise click.UsageError("Give --out DIR to keep the site, or --serve PORT to look at it.")
    if out is not None:
        _check_folder(out, force=force)
    with tempfile.TemporaryDirectory() as folder:
        site = build_site(_read(paths), repo, out or Path(folder, "site"), _annotations(paths))
        if as_json:
            print_json({"schema": 1, "index": str(site.index) if out else None, "left_out": site.left_out})
        else:
            _tell_left_out(site.left_out)
            if out is not None:
                click.echo(str(site.index))
        if port is not None:
            serve(site.index.parent, port)


@click.command()
@_of_rows
@click.option(
    "--asv", "asv_dir", type=click.Path(path_type=Path, file_okay=False), help="A project for asv's commands."
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, allow_dash=True), help="One table; - prints it.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="One page of drawings.")
@force_option
@as_json
def export(
    paths: tuple[Path, ...],
    repo: Path,
    asv_dir: Path | None,
    csv_path: Path | None,
    html_path: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write all rows in other forms."""
    from helora_core.cli.output import print_json
    from helora_core.files.outputs import opened
    from helora_harness.export.csv import to_csv
    from helora_harness.export.html import to_html
    from helora_harness.history_site import write_asv_project

    if asv_dir is None and csv_path is None and html_path is None:
        raise click.UsageError("Give at least one of --asv DIR, --csv FILE and --html FILE.")
    if asv_dir is not None:
        _check_folder(asv_dir / "results", force=force)
    printed = csv_path == Path("-")
    targets = [path for path in (csv_path, html_path) if path is not None and path != Path("-")]
    with opened(targets, force=force) as files:
        rows = _read(paths)
        if csv_path is not None and not printed:
            files.write(csv_path, lambda file: file.write(to_csv(rows).encode()))
        if html_path is not None:
            files.write(html_path, lambda file: file.write(to_html(rows).encode()))
    if printed:
        click.echo(to_csv(rows), nl=False)
    left_out = [] if asv_dir is None else write_asv_project(rows, repo, asv_dir)
    if as_json:
        names = (("csv", csv_path), ("html", html_path), ("asv", asv_dir))
        written = {name: str(path) if path else None for name, path in names}
        print_json({"schema": 1, "rows": len(rows), **written, "left_out": left_out})
        return
    _tell_left_out(left_out)
    if asv_dir is not None:
        click.echo(f"asv show --config {asv_dir / 'asv.conf.json'}", err=True)


def _annotations(paths: tuple[Path, ...]) -> Path:
    """The file of annotations beside the rows."""
    from helora_harness.trends.annotations import FILE

    folders = [path if path.is_dir() else path.parent for path in paths or (HISTORY,)]
    return next((folder / FILE for folder in folders if (folder / FILE).exists()), folders[0] / FILE)


def _check_folder(folder: Path, *, force: bool) -> None:
    """Refuse to replace the results of an earlier command, unless that is asked for.

    Raises:
        InvalidInput: The folder already exists and is not empty.
    """
    from helora_core.errors import InvalidInput

    if not force and folder.is_dir() and any(folder.iterdir()):
        raise InvalidInput(
            f"{folder}: already exists, and is not empty.",
            hint="Choose another place; --force replaces earlier results of this command.",
        )


def _tell_left_out(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(terminal.wrapped(f"left out: {line}", terminal.width(sys.stderr), margin=2), err=True)
