"""``helora run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.runtime.adapter_run import Outcome


@click.command()
@options.adapter(required=False)
@click.option(
    "--artifact",
    "artifact_path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="What `helora compile` wrote, instead of an adapter: Δ is then not checked.",
)
@options.module
@click.option(
    "--input",
    "input_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="X.npy",
    help="Activations, tokens × d_in; an .npz holds one array per module, by name.",
)
@click.option(
    "--output",
    "output_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DELTA.npy",
    help="Where Δ goes, tokens × d_out, float64; for several modules one file each, DELTA.<module>.npy.",
)
@options.execution
@options.as_json
def run(
    adapter_path: Path | None,
    artifact_path: Path | None,
    module_name: str,
    input_path: Path,
    output_path: Path,
    execution: options.Execution,
    as_json: bool,
) -> None:
    """Run your adapter encrypted on your activations.

    Writes Δ. Each Δ is checked against the plaintext reference first; nothing is written if any falls under --min-bits.
    With --artifact there is no reference: --min-bits is then held against the bound that the plan gives beforehand.
    """
    from helora_core.cli.execution import show
    from helora_core.cli.output import print_json
    from helora_core.cli.serving import run_artifact, tell_unchecked
    from helora_core.runtime.arrays import check_target

    check_target(output_path)  # before the work, which may take hours, rather than after it
    if adapter_path is not None and artifact_path is None:
        outcomes, document = _run_adapter(adapter_path, module_name, input_path, execution)
    elif artifact_path is not None and adapter_path is None:
        outcomes, document = run_artifact(artifact_path, module_name, input_path, execution)
        tell_unchecked(document["artifact_digest"])
    else:
        raise click.UsageError("Give one of --adapter PATH and --artifact DIR.")
    _write(outcomes, document, output_path)
    if as_json:
        print_json(document)
    else:
        show(outcomes, document)
        for row in document["modules"]:
            for name in [row["output"]] if isinstance(row["output"], str) else row["output"]:
                click.echo(f"wrote {name}")


def _run_adapter(
    adapter_path: Path, module_name: str, input_path: Path, execution: options.Execution
) -> tuple[list[Outcome], dict[str, Any]]:
    from helora_core.adapter.load import load_adapter
    from helora_core.cli.execution import run_work
    from helora_core.runtime.arrays import read_activations
    from helora_core.runtime.report import require_precision

    modules = load_adapter(adapter_path).select(module_name)
    arrays = read_activations(input_path, [module.name for module in modules])
    outcomes, document = run_work(modules, arrays, execution)
    require_precision(document["modules"], execution.min_bits)
    return outcomes, document


def _write(outcomes: list[Outcome], document: dict[str, Any], path: Path) -> None:
    """One file for each of the adapter's modules, of those that ran as one as well."""
    from helora_core.runtime.arrays import write_array

    deltas = [outcome.work.deltas(outcome.run.delta) for outcome in outcomes]
    alone = sum(map(len, deltas)) == 1
    for parts, row in zip(deltas, document["modules"], strict=True):
        written = []
        for name, delta in parts.items():
            file_name = name.replace("/", "%2F")  # an .npz adapter may name its modules by path
            target = path if alone else path.with_name(f"{path.stem}.{file_name}{path.suffix}")
            write_array(target, delta)
            written.append(str(target))
        row["output"] = written[0] if len(written) == 1 else written
