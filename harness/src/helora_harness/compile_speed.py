"""How long the compiler takes: every packing, for the modules of models up to 7 billion parameters.

A module should be planned within a second, and modules of equal shape share a plan, so an adapter takes a few seconds.
Times are processor times of one thread, so they hardly depend on other load on the machine. Digests are next to them
in the JSON, since a quicker compiler must still give the same plans.

    helora bench compile
    helora bench compile --packing cheetah --tokens 2048 --json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import click

from helora_core.adapter.lora import ModuleShape
from helora_core.cli.numbers import Whole
from helora_core.cli.options import MOST_TOKENS, as_json, packing_names, wide
from helora_core.cli.tables import Table
from helora_core.compiler.compile import compile_plan
from helora_core.errors import HeloraError
from helora_core.host.manager import get_manager

SHAPES = (
    "512:512:8",
    "1536:1536:16",
    "1536:256:16",
    "4096:4096:16",
    "1536:8960:32",
    "8960:1536:32",
    "4096:11008:64",
    "11008:4096:64",
)
TOKENS = (1, 8, 2048)
SANITIZE_BITS = (None, 40)
BAR_MS = 1000.0


def timed(packing: str, shape: str, tokens: int, sanitize_bits: int | None) -> dict[str, Any]:
    """One cell: milliseconds, with the plan's digest or the refusal that took as long."""
    strategy, module = get_manager().load_packing(packing), ModuleShape.parse(shape)
    row: dict[str, Any] = {"packing": packing, "shape": shape, "tokens": tokens, "sanitize_bits": sanitize_bits}
    start = time.process_time_ns()
    try:
        plan = compile_plan(module, strategy, tokens=tokens, sanitize_bits=sanitize_bits, private_weights=False)
    except HeloraError as refusal:
        return {**row, "cpu_ms": (time.process_time_ns() - start) / 1e6, "refusal": refusal.message}
    elapsed_ms = (time.process_time_ns() - start) / 1e6
    return {**row, "cpu_ms": elapsed_ms, "operations": len(plan.program.ops), "digest": plan.digest}


def _shape(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ModuleShape.parse(value)) for value in values)


@click.command("compile")
@click.option("--packing", "packings", multiple=True, metavar="NAME", shell_complete=packing_names,
              help="Only this one; may be repeated.")  # fmt: skip
@click.option("--shape", "shapes", multiple=True, default=SHAPES, metavar="D_IN:D_OUT:R", callback=_shape,
              help="Of a module; may be repeated. By default those of models up to 7 billion parameters.")  # fmt: skip
@click.option("--tokens", multiple=True, type=Whole(1, MOST_TOKENS), default=TOKENS, show_default=True, metavar="T",
              help="In flight together; may be repeated.")  # fmt: skip
@click.option("--slowest", type=Whole(1), default=20, show_default=True, metavar="N", help="Rows of the table.")
@wide
@as_json
def compile_command(
    packings: Sequence[str], shapes: Sequence[str], tokens: Sequence[int], slowest: int, as_json: bool
) -> None:
    """Time the compiler; the status is 1 if a plan takes more than a second."""
    from helora_core.cli.output import print_table, progress

    for name in packings:
        get_manager().load_packing(name)
    cells = list(product(packings or sorted(get_manager().packings()), shapes, tokens, SANITIZE_BITS))
    rows = []
    with progress("plans", len(cells)) as advance:
        for cell in cells:
            rows.append(timed(*cell))
            advance(1)
    late = [row for row in rows if row["cpu_ms"] > BAR_MS]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        print_table(_table(sorted(rows, key=lambda row: -row["cpu_ms"])[:slowest]))
        shown = f"the slowest {slowest} of {len(rows)}; " if slowest < len(rows) else ""
        click.echo(f"{shown}{len(late)} of {len(rows)} over {BAR_MS:.0f} ms")
    sys.exit(1 if late else 0)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    cells = [
        (row["packing"], row["shape"], str(row["tokens"]), str(row["sanitize_bits"] or "no"),
         str(row.get("operations", "refused")), f"{row['cpu_ms']:.0f}")
        for row in rows
    ]  # fmt: skip
    numbers = ("tokens", "sanitised", "operations", "ms")
    return Table.of_text(("packing", "shape", *numbers), cells, numbers=numbers, spare=("operations", "sanitised"))
