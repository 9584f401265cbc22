"""The winners in docs/which-packing.md are those that the planner ranks first, and by as much."""

from __future__ import annotations

from pathlib import Path

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.host.manager import get_manager
from helora_core.planning.planner import CalibratedBackend, rank

PAGE = (Path(__file__).parents[2] / "docs" / "which-packing.md").read_text(encoding="utf-8")

CASES = [
    # shape, tokens, whether weights are private
    ("576:576:8", 1, True),
    ("576:576:8", 16, True),
    ("576:576:8", 4096, True),
    ("1536:1536:16", 1, True),
    ("1536:1536:16", 16, True),
    ("4096:4096:16", 1, True),
    ("4096:4096:16", 16, True),
    ("1536:1536:16", 1, False),
    ("1536:1536:16", 16, False),
]


def winners() -> list[str]:
    """The table, row by row."""
    pytest.importorskip("helora_rns", reason="the table is for it")
    manager = get_manager()
    backend = manager.load_backend("rns")
    core = [name for name, registered in manager.packings().items() if registered.plugin == "core"]
    packings = [manager.load_packing(name) for name in core]
    rows = ["| module | tokens | weights | runs | N | the second best |", "|---|--:|---|---|--:|---|"]
    for shape, tokens, private in CASES:
        constraints = Constraints(target_bits=14, private_weights=private, sanitize_bits=40 if private else None)
        request = PlanRequest(shape=ModuleShape.parse(shape), tokens=(tokens,), constraints=constraints)
        first, second = rank(request, {"rns": CalibratedBackend(backend, None)}, packings)[:2]
        assert first.plan is not None
        weights = "private" if private else "the key holder's"
        costs = f"`{second.packing}`, {second.cost / first.cost:.1f} times the cost"
        rows.append(
            f"| {shape} | {tokens} | {weights} | `{first.packing}` | {first.plan.params.ring_degree} | {costs} |"
        )
    return rows


def test_the_winners_are_the_planners() -> None:
    shown = PAGE.partition("<!-- begin: winners -->")[2].partition("<!-- end")[0].strip()
    assert shown.splitlines() == winners()
