"""``helora run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.runtime.adapter_run import Outcome


@click.command()
@options.adapter(required=True)
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
    adapter_path: Path,
    module_name: str,
    input_path: Path,
    output_path: Path,
    execution: options.Execution,
    as_json: bool,
) -> None:
    """Run your adapter encrypted on your activations.

    Writes Δ. Each Δ is checked against the plaintext reference first; nothing is written if any falls under --min-bits.
    """
    from helora_core.adapter.load import load_adapter
    from helora_core.cli.execution import run_work, show
    from helora_core.cli.output import print_json
    from helora_core.runtime.arrays import check_target, read_activations
    from helora_core.runtime.report import require_precision

    check_target(output_path)  # before the work, which may take hours, rather than after it
    modules = load_adapter(adapter_path).select(module_name)
    arrays = read_activations(input_path, [module.name for module in modules])
    outcomes, document = run_work(modules, arrays, execution)
    require_precision(document["modules"], execution.min_bits)
    _write(outcomes, document, output_path)
    if as_json:
        print_json(document)
    else:
        show(outcomes, document)
        for row in document["modules"]:
            click.echo(f"wrote {row['output']}")


def _write(outcomes: list[Outcome], document: dict[str, Any], path: Path) -> None:
    from helora_core.runtime.arrays import write_array

    for outcome, row in zip(outcomes, document["modules"], strict=True):
        name = row["module"].replace("/", "%2F")  # an .npz adapter may name its modules by path
        target = path if len(outcomes) == 1 else path.with_name(f"{path.stem}.{name}{path.suffix}")
        write_array(target, outcome.run.delta)
        row["output"] = str(target)
