"""``helora plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.adapter.lora import ModuleShape
    from helora_core.compiler.plan import Plan
    from helora_core.packing.protocol import Packing


@click.command()
@options.adapter(required=False)
@options.module
@click.option("--shape", metavar="D_IN:D_OUT:R", help="A module's shape, instead of an adapter; as in 1536:256:16.")
@options.packing
@click.option(
    "--tokens", type=click.IntRange(min=1), metavar="T", help="Tokens to spread the cost over; by default a full run."
)
@options.ring
@options.security
@options.min_bits
@click.option("--rings", is_flag=True, help="Compare ring degrees instead, with times measured on --backend.")
@options.backend
@click.option("--show", is_flag=True, help="Also print the program that the server executes.")
@options.as_json
def plan(
    adapter_path: Path | None,
    module_name: str,
    shape: str | None,
    packing: str,
    tokens: int | None,
    ring: int | None,
    security: str,
    min_bits: float,
    rings: bool,
    backend: str | None,
    show: bool,
    as_json: bool,
) -> None:
    """Say what a module costs and reveals.

    Operations, depth, exact rotation keys, parameters with their security, leakage, digest. Nothing is run, and no
    library for homomorphic encryption is needed. JSON is one object for --shape or a full module name, else a list.
    """
    from helora_core.adapter.lora import ModuleShape
    from helora_core.cli.output import print_json
    from helora_core.compiler.compile import compile_plan
    from helora_core.manager import get_manager

    if (adapter_path is None) == (shape is None):
        raise click.UsageError("Give either --adapter PATH or --shape D_IN:D_OUT:R.")
    manager = get_manager()
    strategy = manager.load_packing(packing)
    wanted = _from_adapter(adapter_path, module_name) if adapter_path else {shape: ModuleShape.parse(str(shape))}
    if rings:
        _compare_rings(set(wanted.values()), strategy, int(security), min_bits, backend, as_json)
        return
    plans: dict[ModuleShape, Plan] = {}
    for module_shape in wanted.values():
        if module_shape not in plans:
            plans[module_shape] = compile_plan(
                module_shape, strategy, ring_degree=ring, security_bits=int(security), precision_bits=min_bits
            )
            manager.notify_plan_compiled(plans[module_shape])
    rows = [{"module": name, **plans[each].to_dict(tokens=tokens)} for name, each in wanted.items()]
    if show:
        from helora_core.compiler.ir import readable

        for row, each in zip(rows, wanted.values(), strict=True):
            row["program"] = readable(plans[each].program)
    if as_json:
        print_json(rows[0] if shape or module_name in wanted else rows)
    else:
        _print(rows)


def _from_adapter(path: Path, module_name: str) -> dict[str | None, ModuleShape]:
    from helora_core.adapter.load import load_adapter

    return {module.name: module.shape for module in load_adapter(path).select(module_name)}


def _compare_rings(
    shapes: set[ModuleShape], strategy: Packing, security_bits: int, min_bits: float, backend: str | None, as_json: bool
) -> None:
    from helora_core.cli.output import print_json
    from helora_core.cli.rings import print_rings, ring_rows
    from helora_core.errors import BackendUnavailable
    from helora_core.manager import get_manager
    from helora_core.selection import select_backend

    manager = get_manager()
    try:
        name: str | None = select_backend(manager, backend).name
    except BackendUnavailable:
        # Without a library there are no times to show, and everything else still holds.
        if backend is not None:
            raise
        name = None
    library = manager.load_backend(name) if name else None
    rows = [
        row
        for shape in sorted(shapes, key=str)
        for row in ring_rows(shape, strategy, security_bits=security_bits, precision_bits=min_bits, backend=library)
    ]
    if as_json:
        print_json(rows)
    else:
        print_rings(rows, backend=name)


def _print(rows: list[dict[str, Any]]) -> None:
    from helora_core.cli.output import amount, print_table

    numbers = ("N", "security", "tokens/run", "rotations", "ct×pt", "rescales", "depth", "rot/token", "keys")
    print_table(
        ("module", "shape", "packing", *numbers, "leakage", "digest"),
        [
            (row["module"], f"{row['d_in']}:{row['d_out']}:{row['rank']}", row["packing"], str(row["ring_degree"]),
             _security(row), str(row["tokens_per_run"]), str(row["rotations"]), str(row["ct_pt"]),
             str(row["rescales"]), str(row["depth"]), amount(row["rotations_per_token"]),
             str(len(row["rotation_steps"])), row["leakage_label"], row["digest"][:12])
            for row in rows
        ],
        numbers=numbers,
    )  # fmt: skip
    for digest, row in {row["digest"]: row for row in rows}.items():
        click.echo(f"\nplan {digest}")
        click.echo(f"  parameters      {_parameters(row)}")
        click.echo(f"  rotation steps  {', '.join(map(str, row['rotation_steps'])) or 'none'}")
        click.echo(f"  leakage         {row['leakage_note']}" + _sanitize_note(row))
        click.echo(f"  default budget  {row['over_budget'] or 'kept'}")
        if "program" in row:
            click.echo("\n" + row["program"])


def _security(row: dict[str, Any]) -> str:
    return f"{row['security_bits']} bits" if row["security_bits"] else "INSECURE"


def _parameters(row: dict[str, Any]) -> str:
    return (
        f"N={row['ring_degree']}, data primes of {row['data_bits']} bits, special {row['special_bits']}, "
        f"log2(QP) = {row['modulus_bits']}; {_security(row)} by {row['security_table']} "
        f"(limit {row['security_limit_bits']})"
    )


def _sanitize_note(row: dict[str, Any]) -> str:
    return " Holds only for sanitised results; helora does not sanitise yet." if row["needs_sanitize"] else ""
