"""``helora conform``."""

from __future__ import annotations

from pathlib import Path

import click

from helora_core.cli import options


@click.command()
@click.argument("backend", shell_complete=options.backends)
@click.option("-k", "keyword", default="", metavar="EXPRESSION", help="Run only the laws that match, as in pytest.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as JSON.")
@click.option("--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a page.")
@click.option("--thorough", is_flag=True, help="Run the slow laws too, and search ten times as many examples.")
@options.force
@click.pass_context
def conform(
    ctx: click.Context,
    backend: str,
    keyword: str,
    json_path: Path | None,
    html_path: Path | None,
    thorough: bool,
    force: bool,
) -> None:
    """Run the conformance kit on a backend.

    Exit status 0 if every law that applies to the backend holds. Needs the extra `conformance` of helora-core.
    """
    import shutil
    from functools import partial
    from tempfile import TemporaryDirectory

    from helora_core.conformance.runner import conform as run_kit
    from helora_core.files.outputs import opened

    wanted = {"json": json_path, "html": html_path}
    with (
        opened([path for path in wanted.values() if path], force=force) as files,  # before the laws, which take a while
        TemporaryDirectory(prefix="helora-conform-") as folder,
    ):
        made = {name: Path(folder, f"report.{name}") if path else None for name, path in wanted.items()}
        status = run_kit(backend, keyword=keyword, json_path=made["json"], html_path=made["html"], thorough=thorough)
        for name, path in wanted.items():
            if path is not None and (report := made[name]) is not None:
                if not report.exists():
                    ctx.exit(status or 1)  # the kit ended before there was anything to report
                with report.open("rb") as content:
                    files.write(path, partial(shutil.copyfileobj, content))
    ctx.exit(status)
