"""The cost of each security table: the plans that it leads to, in docs/parameters.md.

``helora bench security-tables`` rewrites the table in the page; a test compares the page with it. Times are predictions
with the profile that ``helora bench planner`` measured, and compare tables, not machines.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import HeloraError, ProfileMissing
from helora_core.host.manager import get_manager
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.params.security import TABLES
from helora_core.planning.predict import operation_costs, predict
from helora_core.planning.profile import Profile
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS
from helora_harness.places import DOCS
from helora_harness.planner.page import load

PAGE = DOCS / "parameters.md"
BEGIN, END = "<!-- begin: costs of security tables -->", "<!-- end: costs of security tables -->"

SHAPES = ("1536:1536:16", "4096:4096:16", "4096:14336:16")
PACKINGS = ("rank_bsgs", "outer_product", "cheetah_two_round")
TOKENS = 8
_HEADINGS = ("module", "packing", "table", "N", "log₂(QP)", "limit", "tokens/run", "KiB/token", "keys, MiB", "ms/token")


def rendered() -> str:
    """The table, as Markdown."""
    profile = load().profile
    lines = [_line(_HEADINGS), _line(("---", "---", "---", *["--:"] * (len(_HEADINGS) - 3)))]
    lines += [
        _line((shape, f"`{packing}`", f"`{table}`", *_cells(shape, packing, table, profile)))
        for shape in SHAPES
        for packing in PACKINGS
        for table in TABLES
    ]
    return "\n".join(lines)


def _cells(shape: str, packing: str, table: str, profile: Profile) -> Iterator[str]:
    try:
        plan = _plan(shape, packing, table, profile)
    except HeloraError as refusal:
        yield from [refusal.code, *["–"] * (len(_HEADINGS) - 4)]
        return
    runs = plan.runs(TOKENS)
    yield from map(str, (plan.params.ring_degree, plan.params.modulus_bits, plan.verdict.limit_bits))
    yield str(plan.tokens_per_run)
    yield f"{runs * (plan.bytes_up + plan.bytes_down) / TOKENS / 1024:.0f}"
    yield f"{plan.key_bytes / 1024**2:.1f}"
    try:
        yield f"{predict(plan, profile, tokens=TOKENS).ms_per_token:.3g}"
    except ProfileMissing:
        yield "–"


def _plan(shape: str, packing: str, table: str, profile: Profile) -> Plan:
    """The plan for a table: its layout chosen by the profile's times, as far as it has them."""

    def compiled(costs: OperationCosts) -> Plan:
        strategy = get_manager().load_packing(packing)
        return compile_plan(
            ModuleShape.parse(shape),
            strategy,
            tokens=TOKENS,
            sanitize_bits=DEFAULT_SANITIZE_BITS,
            table=table,
            costs=costs,
        )

    plan = compiled(DEFAULT_COSTS)
    try:
        return compiled(operation_costs(profile, plan.params))
    except ProfileMissing:
        return plan


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """``docs/parameters.md`` with the table between its marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n\n{rendered()}\n\n{END}{rest.split(END)[1]}"


@click.command("security-tables")
def security_tables() -> None:
    """Rewrite the table in docs/parameters.md."""
    PAGE.write_text(page(), encoding="utf-8")
