"""The figures in docs/precision.md are those of the compiler, and every source of error that it can name is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_request
from helora_core.compiler.noisy import Source
from helora_core.compiler.request import BackendTraits, Constraints, PlanRequest
from helora_core.host.manager import get_manager

PAGE = (Path(__file__).parents[2] / "docs" / "precision.md").read_text(encoding="utf-8")
SHAPE = ModuleShape(d_in=576, d_out=576, rank=8)
TOKENS = 16


def costs() -> list[str]:
    """The table of what bits cost, row by row."""
    pytest.importorskip("helora_rns", reason="the table is for its plans")
    manager = get_manager()
    traits = BackendTraits.of([manager.load_backend("rns").capabilities])
    rows = [
        "| `--target-bits` | expected | N | data primes, bits | KiB a token, up and down |",
        "|--:|--:|--:|---|--:|",
    ]
    for target in (12, 14, 16, 20, 24, 32):
        constraints = Constraints(target_bits=target)
        request = PlanRequest(shape=SHAPE, tokens=(TOKENS,), constraints=constraints, traits=traits)
        plan = compile_request(request, manager.load_packing("rank_bsgs"))
        row = plan.to_dict()
        kib = (row["bytes_up_estimate"] + row["bytes_down_estimate"]) / TOKENS / 1024
        primes = ", ".join(map(str, plan.params.data_bits))
        rows.append(f"| {target} | {plan.precision().bits:.1f} | {plan.params.ring_degree} | {primes} | {kib:.0f} |")
    return rows


def test_the_table_of_costs_has_the_plans_figures() -> None:
    shown = PAGE.partition("<!-- begin: bits and what they cost -->")[2].partition("<!-- end")[0].strip()
    assert shown.splitlines() == costs()


def test_every_source_of_error_that_a_plan_can_name_is_explained() -> None:
    table = PAGE.partition("| term | what it is | what helps |")[2].partition("\n\n")[0]
    named = {name.strip() for row in table.splitlines()[2:] for name in row.split("|")[1].split(",")}
    # Two that are one to a reader: what is dropped of either polynomial.
    sources = {source.label.removesuffix(" times secret") for source in Source}
    sources |= {"weight rounding", "scale drift", "float64"}
    assert named == sources
