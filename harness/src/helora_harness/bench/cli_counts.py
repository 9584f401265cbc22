"""``helora bench counts``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from helora_core.cli.options import as_json, wide
from helora_core.cli.terminal import say

if TYPE_CHECKING:
    from helora_harness.bench.counts import Difference
    from helora_harness.rows import Cell


@click.command()
@click.option("--check", is_flag=True, help="Compare with the lock file, and exit with the state's status.")
@click.option("--update", is_flag=True, help="Lock the counts as they are now, unless a cell is lost or over budget.")
@click.option("--preset", "name", default="ci", show_default=True, help="Cells to count; the lock holds those of ci.")
@click.option("--require", is_flag=True, help="A backend that cannot be used here loses its cells.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Append the counts to this file of rows.")
@click.option("--lock", type=click.Path(path_type=Path, dir_okay=False), help="Another lock file.", hidden=True)
@click.option("--budgets", type=click.Path(path_type=Path, dir_okay=False), help="Other budgets.", hidden=True)
@wide
@as_json
def counts(
    check: bool,
    update: bool,
    name: str,
    require: bool,
    out: Path | None,
    lock: Path | None,
    budgets: Path | None,
    as_json: bool,
) -> None:
    """Count what every cell costs, sanitised and plain; hold it to harness/counts.lock.json.

    No clock and no secret is involved: plans are compiled and counted. With --check the exit status is 0 if all is
    as locked, 1 for a cell that costs more or breaks its budget, 3 for one that costs less or is new, 4 for one that
    is lost. Rows of --out are of the plain plans.
    """
    if check and update:
        raise click.UsageError("--check and --update exclude each other.")
    from helora_core.cli.output import print_json, progress
    from helora_harness import cases
    from helora_harness.bench import counts as gate
    from helora_harness.bench import lock as files

    lock = lock or files.LOCK
    cells = cases.preset(name)
    here, missing = gate.split_absent(cells)
    with progress("cells", len(here)) as advance:
        now = gate.measured(here, lambda: advance(1))
    if out is not None:
        _append(out, [cell for cell in here if not isinstance(now[gate.name_of(cell)], str)])
    if require:
        lost = [cell for cell in cells if cell.backend in missing]
        now |= {name: missing[cell.backend] for cell in lost for name in gate.names_of(cell)}
    document = {"schema": files.SCHEMA, "preset": name, "counts": now, "absent": missing}
    found: list[Difference] = []
    if check or update:
        allowed = files.budgets(now, budgets or files.BUDGETS)
        locked = files.read_lock(lock, to_update=update)
        if update:
            files.write_lock(gate.updated(locked, now, allowed), lock, budgets_path=budgets or files.BUDGETS)
            locked = files.read_lock(lock)
        found = gate.judge(locked, now, allowed, known=gate.known_cells())
    state = gate.state_of(found)
    if as_json:
        verdict = {"state": state, "exit_status": gate.EXIT[state], "differences": found} if check or update else {}
        print_json(document | verdict)
    else:
        if not (check or update):
            _show_counts(now)
        for each in found:
            say(f"{each.state:8} {each.cell}: {each.what}")
        _show_absent({cell.backend for cell in cells}, missing)
        say(f"counts: {state}, {len(now)} cells" if check or update else f"{len(now)} cells")
    sys.exit(gate.EXIT[state])


def _append(out: Path, cells: Sequence[Cell]) -> None:
    from helora_harness.bench import counts as gate
    from helora_harness.bench.record import Record, origin

    record, of = Record(out), origin()
    new = [cell for cell in cells if not record.known("counts", cell, of)]
    for cell in new:
        record.add(gate.row_of(cell, gate.plan_of(cell), of))
    say(f"{len(new)} rows added to {out}, {len(cells) - len(new)} were there", err=True)


_COLUMNS = {
    "rotations": "rot", "keyswitches": "ks", "rescales": "resc", "ct_pt": "ct×pt", "encrypts": "enc",
    "decrypts": "dec", "rotation_keys": "keys", "live_ciphertexts": "live", "tokens_per_run": "tok/run",
    "ring_degree": "N", "modulus_bits": "bits", "bytes_up": "KiB up", "bytes_down": "KiB down",
    "bytes_keys": "KiB keys", "bytes_ahead_up": "KiB ahead up", "bytes_ahead_down": "KiB ahead down",
}  # fmt: skip


def _show_counts(now: Mapping[str, dict[str, int] | str]) -> None:
    from helora_core.cli.output import print_table
    from helora_core.cli.tables import Table

    def words(name: str, value: int) -> str:
        return str(value // 1024 if name.startswith("bytes") else value)

    rows = [
        [cell, *(words(name, found.get(name, 0)) for name in _COLUMNS)]
        for cell, found in now.items()
        if not isinstance(found, str)
    ]
    numbers = list(_COLUMNS.values())
    print_table(Table.of_text(["one run of", *numbers], rows, numbers=numbers, spare=numbers[:3:-1]))
    for cell, found in now.items():
        if isinstance(found, str):
            say(f"{cell}: {found}", err=True)


def _show_absent(backends: set[str], missing: Mapping[str, str]) -> None:
    if missing:
        say(f"{len(backends) - len(missing)} of {len(backends)} backends counted:", err=True)
        for backend, reason in missing.items():
            say(f"  {backend}: {reason}", err=True)
