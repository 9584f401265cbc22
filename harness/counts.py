"""The counts gate: what every packing costs for every shape, against the committed ``counts.lock.json``.

Counts are exact and the same on every machine, so they gate; clocks do not. A difference in the lock file *is* the
claim that a change makes a plan cheaper or dearer. States and exit statuses:

=========  ====  ===================================================================
OK         0     every cell costs what the lock says
REGRESS    1     a cell costs more
STALE      3     a cell costs less, or is new: run with ``--update`` and commit
LOST       4     a cell of the lock can no longer be compiled
=========  ====  ===================================================================

Run it with ``python harness/counts.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from helora_core.adapter.atomic import replacing
from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.errors import HeloraError
from helora_core.manager import get_manager

LOCK = Path(__file__).with_name("counts.lock.json")

SHAPES = (
    "512:512:8",
    "576:576:8",
    "576:192:8",
    "1024:1024:16",
    "1536:1536:16",
    "1536:1536:32",
    "1536:256:16",
    "1536:8960:32",
    "8960:1536:32",
    "4096:4096:16",
    "4096:4096:64",
)
"""The bundled adapter's modules, and those of models of 1.5 and 7 billion parameters."""

MERGED_SHAPES = ("512:512:8", "576:192:8", "1536:1536:16", "1536:256:16", "4096:4096:16")
"""For packings that merge the rank away: another rank would be the same cell again."""

PACKINGS = {
    "rank_bsgs": SHAPES,
    "zero_moai": SHAPES,
    "cpmm": ("512:512:8", "576:192:8", "1536:1536:16", "1536:256:16", "4096:4096:64"),
    "halevi_shoup": MERGED_SHAPES,
    "halevi_shoup_bsgs": (*MERGED_SHAPES, "1536:8960:32", "8960:1536:32"),
    "outer_product": SHAPES,
    "cheetah": SHAPES,
    "cheetah_two_round": SHAPES,
}
"""The shapes that each packing is counted for."""

Counts = dict[str, int]
"""By name; all are better when lower, but the ring degree and the tokens of a run, which must stay."""

_FIXED = ("ring_degree", "tokens_per_run")


def measured() -> dict[str, Counts | str]:
    """The counts of every cell by name, or the refusal that it met."""
    cells: dict[str, Counts | str] = {}
    for packing, shapes in PACKINGS.items():
        for shape in shapes:
            cells[f"{packing} {shape}"] = _counts(packing, shape)
    return cells


def _counts(packing: str, shape: str) -> Counts | str:
    try:
        plan = compile_plan(ModuleShape.parse(shape), get_manager().load_packing(packing))
    except HeloraError as error:
        return str(error)
    return {
        "ring_degree": plan.params.ring_degree,
        "tokens_per_run": plan.tokens_per_run,
        "rotation_keys": len(plan.rotation_steps),
        **msgspec.structs.asdict(plan.counts),
    }


def judge(locked: Mapping[str, Counts], now: Mapping[str, Counts | str]) -> tuple[str, list[str]]:
    """The state of the worst cell, and a line about every cell that is not OK."""
    states: dict[str, list[str]] = {"LOST": [], "REGRESS": [], "STALE": []}
    for cell in sorted({*locked, *now}):
        found, before = now.get(cell, "it is no longer measured"), locked.get(cell)
        if isinstance(found, str):
            states["LOST"].append(f"LOST     {cell}: {found}")
        elif before is None:
            states["STALE"].append(f"STALE    {cell}: new")
        elif found != before:
            worse = [name for name in found if found[name] > before.get(name, 0) or _moved(name, found, before)]
            changes = ", ".join(
                f"{name} {before.get(name)} → {found[name]}" for name in found if found[name] != before.get(name)
            )
            state = "REGRESS" if worse else "STALE"
            states[state].append(f"{state:8} {cell}: {changes}")
    state = next((name for name, lines in states.items() if lines), "OK")
    return state, [line for lines in states.values() for line in lines]


def _moved(name: str, found: Counts, before: Counts) -> bool:
    return name in _FIXED and found[name] != before.get(name)


_EXIT = {"OK": 0, "REGRESS": 1, "STALE": 3, "LOST": 4}


@click.command()
@click.option("--update", is_flag=True, help="Lock the counts as they are now, unless a cell is lost.")
def main(update: bool) -> None:
    """Hold the counts of all cells to the lock file."""
    now = measured()
    if update and not any(isinstance(counts, str) for counts in now.values()):
        with replacing(LOCK) as file:
            file.write(msgspec.json.format(msgspec.json.encode(now, order="sorted"), indent=1) + b"\n")
    locked = msgspec.json.decode(LOCK.read_bytes(), type=dict[str, Counts])
    state, lines = judge(locked, now)
    for line in lines:
        click.echo(line)
    click.echo(f"counts: {state}, {len(now)} cells")
    sys.exit(_EXIT[state])


if __name__ == "__main__":
    main()
