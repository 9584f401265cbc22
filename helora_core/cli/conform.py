"""``helora conform``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("backend")
@click.option("-k", "keyword", default="", metavar="EXPRESSION", help="Only the laws that match, as in pytest.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as JSON.")
@click.option("--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a page.")
@click.option("--thorough", is_flag=True, help="Run the slow laws too, and search ten times as many examples.")
@click.pass_context
def conform(
    ctx: click.Context, backend: str, keyword: str, json_path: Path | None, html_path: Path | None, thorough: bool
) -> None:
    """Hold a backend to the conformance kit.

    Exit status 0 if every law that applies to the backend holds. Needs the extra `conformance` of helora-core.
    """
    from helora_core.conformance.runner import conform as run_kit

    ctx.exit(run_kit(backend, keyword=keyword, json_path=json_path, html_path=html_path, thorough=thorough))
