"""The cells of a grid of sizes, ranks and batches, with packings by name or by the planner's choice."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.host.manager import get_manager
from helora_core.planning.planner import CalibratedBackend, choose, rank
from helora_core.planning.profile_files import load_profile
from helora_harness.rows import Cell

AUTO = "auto"


def grid(
    backends: Sequence[str], packings: Sequence[str], sizes: Sequence[int], ranks: Sequence[int], batches: Sequence[int]
) -> list[Cell]:
    """A cell for each combination, of modules of d × d.

    Raises:
        PackingUnavailable: There is no packing of a name; raised once here, rather than for each cell.
    """
    for packing in packings:
        if packing != AUTO:
            get_manager().load_packing(packing)
    return [
        Cell(backend=backend, packing=packing, shape=f"{size}:{size}:{rank}", tokens=batch)
        for backend in backends
        for packing in packings
        for size in sizes
        for rank in ranks
        for batch in batches
    ]


def with_packing(cell: Cell) -> Cell:
    """A cell whose packing is ``auto``, with the one that the planner finds cheapest in the smallest sufficient ring.

    What packings reveal does not count: plans of the harness are for weights that may be known, and do not sanitise.

    Raises:
        NothingEligible: No packing takes the module on the backend, or another refusal that they all have.
    """
    if cell.packing != AUTO:
        return cell
    manager = get_manager()
    machine = CalibratedBackend(manager.load_backend(cell.backend), load_profile(cell.backend))
    packings = [manager.load_packing(name) for name in manager.packings()]
    open_weights = Constraints(private_weights=False, sanitize_bits=None)
    request = PlanRequest(shape=ModuleShape.parse(cell.shape), tokens=(cell.tokens,), constraints=open_weights)
    ranked = rank(request, {cell.backend: machine}, packings)
    rings: dict[str, int] = {}
    for each in ranked:
        if each.plan is not None:
            rings[each.packing] = min(each.plan.params.ring_degree, rings.get(each.packing, sys.maxsize))
    # Workers compile in the smallest ring, so a candidate in a larger one is not what would be measured.
    small = [each for each in ranked if each.plan is None or each.plan.params.ring_degree == rings[each.packing]]
    return msgspec.structs.replace(cell, packing=choose(small).packing)
