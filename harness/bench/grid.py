"""The cells of a grid of sizes, ranks and batches, with packings by name or by the planner's choice."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from harness.rows import Cell
from helora_core.adapter.lora import ModuleShape
from helora_core.manager import get_manager
from helora_core.runtime.planner import Constraints, Machine, choose, rank
from helora_core.runtime.profile import load_profile

AUTO = "auto"


def grid(
    backends: Sequence[str], packings: Sequence[str], sizes: Sequence[int], ranks: Sequence[int], batches: Sequence[int]
) -> list[Cell]:
    """A cell for each combination; the packing ``auto`` is the one that the planner finds cheapest for the cell.

    Raises:
        PackingUnavailable: There is no packing of a name.
        NothingEligible: No packing takes such a module on a backend.
    """
    for packing in packings:
        if packing != AUTO:
            get_manager().load_packing(packing)  # a wrong name is refused now, rather than once a cell
    cells = [
        Cell(backend=backend, packing=packing, shape=f"{size}:{size}:{rank}", tokens=batch)
        for backend in backends
        for packing in packings
        for size in sizes
        for rank in ranks
        for batch in batches
    ]
    return list(dict.fromkeys(with_packing(cell) if cell.packing == AUTO else cell for cell in cells))


def with_packing(cell: Cell) -> Cell:
    """The cell with the packing that the planner finds cheapest in the smallest ring that will do.

    What packings reveal does not count: plans of the harness are for weights that may be known, and do not sanitise.
    """
    manager = get_manager()
    machine = Machine(manager.load_backend(cell.backend), load_profile(cell.backend))
    packings = [manager.load_packing(name) for name in manager.packings()]
    open_weights = Constraints(private_weights=False, sanitize_bits=None)
    ranked = rank(ModuleShape.parse(cell.shape), cell.tokens, {cell.backend: machine}, packings, open_weights)
    rings: dict[str, int] = {}
    for each in ranked:
        if each.plan is not None:
            rings[each.packing] = min(each.plan.params.ring_degree, rings.get(each.packing, sys.maxsize))
    # Workers compile in the smallest ring, so a candidate in a larger one is not what would be measured.
    small = [each for each in ranked if each.plan is None or each.plan.params.ring_degree == rings[each.packing]]
    return msgspec.structs.replace(cell, packing=choose(small).packing)
