"""The counts gate: what every cell costs, against the committed ``counts.lock.json`` and ``budgets.toml``.

Counts are exact and the same on every machine, so they gate; clocks do not. A difference in the lock file *is* the
claim that a change makes a plan cheaper or dearer. States, the gravest first, and exit statuses:

=========  ====  ===================================================================================================
LOST       4     a locked cell can no longer be planned on its backend, or nobody measures it any more
REGRESS    1     a cell costs more, or its ring or batch has moved
BUDGET     1     a cell costs more than its absolute budget, or that budget is looser than when the cell was locked
STALE      3     a cell costs less, is new, or has a tighter budget: run with ``--update`` and commit
OK         0     every cell costs what the lock says
=========  ====  ===================================================================================================

Cells of a backend whose library is not installed are reported and left as they are; asked to require them, the gate
calls them LOST.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from harness.bench.record import Origin, provenance
from harness.benchmarks.shim import plan_facts
from harness.cases import PRESETS, absent
from harness.metrics import COUNTS
from harness.rows import Cell, Row
from helora_core.adapter.atomic import replacing
from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import HeloraError
from helora_core.manager import get_manager
from helora_core.runtime.adapter_run import require_capabilities

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCK = Path(__file__).parents[1] / "counts.lock.json"
BUDGETS = Path(__file__).parents[1] / "budgets.toml"
SCHEMA = 2

EXIT = {"OK": 0, "REGRESS": 1, "BUDGET": 1, "STALE": 3, "LOST": 4}
_GRAVEST = ("LOST", "REGRESS", "BUDGET", "STALE")
_FIXED = ("ring_degree", "tokens_per_run")
"""Neither is better when lower: with another ring or batch it is another cell."""

_WORDS = {
    "keyswitches": "key switches",
    "ct_pt": "ct×pt",
    "bytes_up": "bytes up",
    "bytes_down": "bytes down",
    "bytes_keys": "bytes of rotation keys",
}

Counts = dict[str, int]


class LockRefused(HeloraError):
    """The lock file, or the file of budgets, is not what this version reads."""

    code: ClassVar[str] = "lock-refused"


class Locked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the lock file says of a cell: its counts, and the budgets that it was locked under."""

    counts: Counts
    budget: Counts = {}


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lock file."""

    schema: int
    cells: dict[str, Locked]


class Difference(msgspec.Struct, frozen=True):
    """One cell that is not OK, and why in words."""

    state: str
    cell: str
    what: str


def name_of(cell: Cell) -> str:
    """``backend packing shape tokens``, as the lock file and patterns of budgets have it."""
    return f"{cell.backend} {cell.packing} {cell.shape} {cell.tokens}"


def measured(cells: Iterable[Cell], step: Callable[[], object] = lambda: None) -> dict[str, Counts | str]:
    """The counts of every cell by name, or the refusal that it met. The backends must be usable here."""
    found: dict[str, Counts | str] = {}
    for cell in cells:
        try:
            found[name_of(cell)] = counts_of(plan_of(cell))
        except HeloraError as error:
            found[name_of(cell)] = str(error)
        step()
    return found


def plan_of(cell: Cell) -> Plan:
    """The plan of a cell for what its backend can do.

    Raises:
        HeloraError: The backend is unknown or unusable, or it or the packing refuses the cell.
    """
    manager = get_manager()
    backend = manager.load_backend(cell.backend)
    plan = compile_plan(
        ModuleShape.parse(cell.shape),
        manager.load_packing(cell.packing),
        tokens=cell.tokens,
        free_scales=backend.capabilities.free_plaintext_scale,
        public_encryption=not backend.capabilities.symmetric_encryption,
    )
    require_capabilities(backend, plan)
    return plan


def counts_of(plan: Plan) -> Counts:
    """Of one run, by name."""
    return {
        "ring_degree": plan.params.ring_degree,
        "tokens_per_run": plan.tokens_per_run,
        **msgspec.structs.asdict(plan.counts),
        "rotation_keys": len(plan.rotation_steps),
        "live_ciphertexts": _most_alive(plan),
        "bytes_up": plan.bytes_up,
        "bytes_down": plan.bytes_down,
        "bytes_keys": plan.key_bytes,
    }


def row_of(cell: Cell, plan: Plan, of: Origin) -> Row:
    """The counts of a cell's plan as a result row, per token."""
    runs = plan.runs(cell.tokens)
    counts = msgspec.structs.asdict(plan.counts)
    metrics: dict[str, int | float] = {name: runs * counts[old] / cell.tokens for old, name in COUNTS.items()}
    metrics |= {
        "rotation_keys": len(plan.rotation_steps),
        "live_ciphertexts": _most_alive(plan),
        "bytes_up_per_token": runs * plan.bytes_up / cell.tokens,
        "bytes_down_per_token": runs * plan.bytes_down / cell.tokens,
        "bytes_keys": plan.key_bytes,
    }
    secure = get_manager().backends()[cell.backend].spec.provides_security
    facts = provenance(of, cell.backend, plan_facts(plan), secure=secure)
    return Row(kind="counts", cell=cell, metrics=metrics, provenance=facts)


def _most_alive(plan: Plan) -> int:
    """Ciphertexts that an executor which forgets each after its last reader holds at once."""
    alive = most = 0
    for read_last in plan.program.last_reads():
        alive += 1
        most = max(most, alive)
        alive -= len(read_last)
    return most


def budgets(cells: Iterable[str], path: Path = BUDGETS) -> dict[str, Counts]:
    """The ceilings that hold for each cell.

    Raises:
        LockRefused: The file cannot be read, or an entry is no budget.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["budget"]
        split = [(entry.pop("cells"), msgspec.convert(entry, Counts)) for entry in entries]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LockRefused(
            f"{path} has no budgets that can be read: {error!r}.",
            hint="Each [[budget]] has `cells`, a pattern over 'backend packing shape tokens', and whole numbers.",
        ) from error
    found: dict[str, Counts] = {}
    for cell in cells:
        ceilings: Counts = {}
        for pattern, limits in split:
            if fnmatch.fnmatchcase(cell, pattern):
                ceilings |= {name: min(limit, ceilings.get(name, limit)) for name, limit in limits.items()}
        found[cell] = ceilings
    return found


def judge(
    locked: Mapping[str, Locked],
    now: Mapping[str, Counts | str],
    allowed: Mapping[str, Counts],
    *,
    known: Collection[str] | None = None,
) -> list[Difference]:
    """What is not as the lock says, the gravest first.

    Args:
        locked: Cells of the lock file.
        now: The cells that were counted, or why one could not be.
        allowed: Budgets now in force, by cell.
        known: Cells that some preset still has, counted here or not; None for those of ``now``.
    """
    known = now if known is None else known
    found = [Difference("LOST", cell, "nobody measures it any more") for cell in locked if cell not in known]
    for cell, counts in now.items():
        if not isinstance(counts, str):
            found += _of_cell(cell, counts, locked.get(cell), allowed.get(cell, {}))
        elif cell in locked:  # one that never could be planned is no difference
            found.append(Difference("LOST", cell, counts))
    return sorted(found, key=lambda each: (_GRAVEST.index(each.state), each.cell))


def _of_cell(cell: str, counts: Counts, locked: Locked | None, ceilings: Counts) -> Iterable[Difference]:
    over = [
        f"{_words(name)} {counts[name]}, and the budget is {limit}"
        for name, limit in ceilings.items()
        if counts.get(name, 0) > limit
    ]
    if over:
        yield Difference("BUDGET", cell, ", ".join(over))
    if locked is None:
        yield Difference("STALE", cell, "new")
        return
    worse = [name for name in counts if _is_worse(name, counts[name], locked.counts.get(name))]
    changes = _changes(locked.counts, counts)
    if changes:
        yield Difference("REGRESS" if worse else "STALE", cell, changes)
    looser = any(name not in ceilings or ceilings[name] > limit for name, limit in locked.budget.items())
    moved = _changes(locked.budget, ceilings)
    if moved:
        yield Difference(
            "BUDGET" if looser else "STALE", cell, f"budget {'loosened' if looser else 'changed'}: {moved}"
        )


def _is_worse(name: str, now: int, before: int | None) -> bool:
    if before is None:
        return False
    return now != before if name in _FIXED else now > before


def _changes(before: Counts, now: Counts) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{_words(name)} {before.get(name, 'none')} → {now.get(name, 'none')}" for name in names)


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def state_of(differences: Sequence[Difference]) -> str:
    """The gravest state, OK if there is none."""
    return differences[0].state if differences else "OK"


def read_lock(path: Path = LOCK) -> dict[str, Locked]:
    """The cells of a lock file.

    Raises:
        LockRefused: It is missing, damaged, or of another schema.
    """
    try:
        lock = msgspec.json.decode(path.read_bytes(), type=Lock)
        if lock.schema != SCHEMA:
            raise ValueError(f"its schema is {lock.schema}, and this version reads {SCHEMA}")
    except (OSError, ValueError) as error:
        raise LockRefused(
            f"{path} is no lock file of counts: {error}.", hint="Take it from git, or write it with --update."
        ) from error
    return lock.cells


def write_lock(cells: Mapping[str, Locked], path: Path = LOCK) -> None:
    """Write a lock file, one line a cell: its diff is meant to be read."""
    lines = (f"  {_json(name)}: {_json(cells[name])}" for name in sorted(cells))
    with replacing(path) as file:
        file.write(f'{{\n "schema": {SCHEMA},\n "cells": {{\n'.encode() + ",\n".join(lines).encode() + b"\n }\n}\n")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def updated(
    locked: Mapping[str, Locked], now: Mapping[str, Counts | str], allowed: Mapping[str, Counts]
) -> dict[str, Locked]:
    """The lock with the counted cells as they are now. Cells that no preset has go; absent backends' cells stay.

    Raises:
        LockRefused: A locked cell is lost, or one is over its budget: neither is a claim that a file can make.
    """
    bad = [each for each in judge(locked, now, allowed, known=known_cells()) if each.state in ("LOST", "BUDGET")]
    bad = [each for each in bad if isinstance(now.get(each.cell), str) or " and the budget is " in each.what]
    if bad:
        raise LockRefused(
            "Not updated: " + "; ".join(f"{each.cell}: {each.what}" for each in bad),
            hint="Repair the packing or backend, or take the cell out of harness/cases.py or its budget up first.",
        )
    kept = {cell: value for cell, value in locked.items() if cell in known_cells()}
    new = {cell: Locked(counts, allowed[cell]) for cell, counts in now.items() if not isinstance(counts, str)}
    return {**kept, **new}


def known_cells() -> frozenset[str]:
    """The names of all cells of all presets."""
    return frozenset(name_of(cell) for cells in PRESETS.values() for cell in cells)


def split_absent(cells: Sequence[Cell]) -> tuple[list[Cell], dict[str, str]]:
    """The cells to count here, and why some backends cannot be used here.

    A backend that no plugin offers any more is not among those: its cells are counted, and so found lost.
    """
    offered = get_manager().backends()
    missing = absent(cell.backend for cell in cells if cell.backend in offered)
    return [cell for cell in cells if cell.backend not in missing], missing
