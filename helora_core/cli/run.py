"""``helora run``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.files.outputs import Outputs
    from helora_core.parties.adapter_run import ModuleResult

    Execute = Callable[[], tuple[list[ModuleResult], dict[str, Any]]]


@click.command()
@options.adapter(required=False)
@click.option(
    "--artifact",
    "artifact_path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory from `helora compile`, instead of an adapter: Δ is then not checked.",
)
@options.module
@click.option(
    "--input",
    "input_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="X.npy",
    help="Activations, tokens × d_in: .npy, or .npz or .safetensors with an array per module, by name.",
)
@click.option(
    "--output",
    "output_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DELTA.npy",
    help="Where to write Δ, tokens × d_out, float64; for several modules one file each, DELTA.<module>.npy.",
)
@options.force
@options.tokens("all of them")
@options.execution
@options.wide
@options.as_json
def run(
    adapter_path: Path | None,
    artifact_path: Path | None,
    module_name: str,
    input_path: Path,
    output_path: Path,
    force: bool,
    tokens: tuple[int, ...],
    execution: options.Execution,
    as_json: bool,
) -> None:
    """Run your adapter encrypted on your activations.

    Writes Δ, with a bound on its error. Nothing is written if the bound leaves any Δ less than --min-bits, or if one is
    off by more than the bound: with --adapter each is checked against the plaintext reference.
    """
    from helora_core.adapter.arrays import check_target
    from helora_core.cli.output import print_json
    from helora_core.cli.results import show, warn_of
    from helora_core.files.outputs import opened

    check_target(output_path)
    if adapter_path is not None and artifact_path is None:
        names, execute = _adapter(adapter_path, module_name, input_path, tokens, execution)
    elif artifact_path is not None and adapter_path is None:
        names, execute = _artifact(artifact_path, module_name, input_path, execution)
    else:
        raise click.UsageError("Give one of --adapter PATH and --artifact DIR.")
    targets = _targets(names, output_path)
    with opened(targets.values(), force=force) as files:  # before the work, which may take hours
        results, document = execute()
        _write(results, document, targets, files)
    if as_json:
        print_json(document)
        warn_of(results, document)
    else:
        show(results, document)
        for row in document["modules"]:
            for name in [row["output"]] if isinstance(row["output"], str) else row["output"]:
                click.echo(f"wrote {name}")


def _adapter(
    adapter_path: Path, module_name: str, input_path: Path, tokens: tuple[int, ...], execution: options.Execution
) -> tuple[list[str], Execute]:
    """Names of the modules, and the function that runs them."""
    from helora_core.adapter.arrays import read_activations
    from helora_core.adapter.load import load_adapter
    from helora_core.cli.execution import run_work
    from helora_core.parties.report import require_precision

    modules = load_adapter(adapter_path).select(module_name)

    def execute() -> tuple[list[ModuleResult], dict[str, Any]]:
        arrays = read_activations(input_path, [module.name for module in modules])
        results, document = run_work(modules, arrays, execution, tokens)
        require_precision(document["modules"], execution.min_bits)
        return results, document

    return [module.name for module in modules], execute


def _artifact(
    artifact_path: Path, module_name: str, input_path: Path, execution: options.Execution
) -> tuple[list[str], Execute]:
    """Names of the compiled modules, and the function that runs them."""
    from helora_core.cli.serving import open_artifact, run_artifact, tell_unchecked
    from helora_core.parties.report import require_precision

    artifact = open_artifact(artifact_path, execution)
    modules = artifact.select(module_name)

    def execute() -> tuple[list[ModuleResult], dict[str, Any]]:
        results, document = run_artifact(artifact, modules, input_path, execution)
        require_precision(document["modules"], execution.min_bits)
        tell_unchecked(artifact.digest)
        return results, document

    return list(dict.fromkeys(part.name for module in modules for part in module.parts)), execute


def _targets(names: list[str], path: Path) -> dict[str, Path]:
    """The file for each module's Δ, also for modules that run as one."""
    if len(names) == 1:
        return {names[0]: path}
    # An .npz adapter may name its modules by path; the replacement of a slash must not occur in other names.
    escaped = {name: name.replace("%", "%25").replace("/", "%2F") for name in names}
    return {name: path.with_name(f"{path.stem}.{escaped[name]}{path.suffix}") for name in names}


def _write(results: list[ModuleResult], document: dict[str, Any], targets: dict[str, Path], files: Outputs) -> None:
    import numpy as np

    for result, row in zip(results, document["modules"], strict=True):
        written = []
        for name, delta in result.deltas.items():
            files.write(targets[name], partial(np.save, arr=delta, allow_pickle=False))
            written.append(str(targets[name]))
        row["output"] = written[0] if len(written) == 1 else written
