"""The tables of docs/parameters.md are those of the bundled data, and the parameters named there are those chosen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidParameters, PrecisionLost
from helora_core.host.manager import get_manager
from helora_core.params import presets
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import TABLES, load_table, security_verdict
from helora_harness import security_costs
from tests.registered import online_packings

PAGE = (Path(__file__).parents[2] / "docs" / "parameters.md").read_text(encoding="utf-8")
PROMISED_BITS = {"rank_bsgs": (19, 8192), "zero_moai": (16, 4096)}


def security_rows(table: str) -> Iterator[str]:
    entries = load_table(table)
    for ring in sorted({ring for level in entries.levels for ring in entries.rings(level)}):
        limits = (str(entries.limit(ring, level) or "–") for level in entries.levels)
        yield f"| {ring} | {' | '.join(limits)} |"


@pytest.mark.parametrize("table", TABLES)
def test_security_tables_are_the_data(table: str) -> None:
    section = PAGE.split(f"\n`{table}`", 1)[1]
    assert "\n".join(security_rows(table)) + "\n\n" in section
    source, said = load_table(table).source, section.split("|")[0]
    assert source.partition("doi ")[2].split(";")[0] in said
    for file in re.findall(r"\S+/(\w+\.(?:h|swift))", source):
        assert file in said or table == "he-standard-2018"


def test_what_tables_cost_is_what_plans_are() -> None:
    """``helora bench security-tables`` brings the page up to date."""
    assert security_costs.rendered() in PAGE


@pytest.mark.parametrize("packing", PROMISED_BITS)
def test_chosen_parameters_are_those_shown(packing: str) -> None:
    plan = compile_plan(ModuleShape.parse("2048:2048:16"), get_manager().load_packing(packing), private_weights=False)
    params, limit = plan.params, plan.verdict.limit_bits
    chain, special = ", ".join(map(str, params.data_bits)), params.special_bits[0]
    cells = (f"`{packing}`", plan.packing.depth, params.ring_degree, chain, special, params.modulus_bits, limit)
    assert f"| {' | '.join(map(str, cells))} |" in PAGE


def sanitised(packing: str, bits: int | None) -> tuple[Plan, str, list[int]]:
    """A plan, its chain as the tables have it, and its modulus with the limit."""
    plan = compile_plan(
        ModuleShape.parse("1024:1024:16"),
        get_manager().load_packing(packing),
        sanitize_bits=bits,
        private_weights=False,
    )
    params = plan.params
    special = params.special_bits[0] if params.special_bits else "–"
    chain = f"{params.ring_degree} | {', '.join(map(str, params.data_bits))} | {special}"
    return plan, chain, [params.modulus_bits, plan.verdict.limit_bits]


@pytest.mark.parametrize("packing", sorted(online_packings()))
def test_flat_and_masked_parameters_are_those_shown(packing: str) -> None:
    plan, chain, (modulus, limit) = sanitised(packing, 40)
    scales = plan.scales
    if plan.settings.rescales:
        assert f"| `{packing}` | to 40 bits | {chain} | {modulus} | {limit} |" in PAGE
    else:
        assert f"| `{packing}` | {chain} | {modulus} | {limit} | {scales.input_bits}, {scales.down_bits} |" in PAGE


def test_masked_parameters_without_sanitising_are_those_shown() -> None:
    _, chain, (modulus, limit) = sanitised("cheetah_two_round", None)
    assert f"| `cheetah_two_round` | no | {chain} | {modulus} | {limit} |" in PAGE


@pytest.mark.parametrize(("packing", "promised"), PROMISED_BITS.items())
def test_as_much_precision_is_promised_as_the_page_says_and_no_more(packing: str, promised: tuple[int, int]) -> None:
    shape, strategy, (bits, ring) = ModuleShape.parse("2048:2048:16"), get_manager().load_packing(packing), promised
    assert compile_plan(shape, strategy, precision_bits=bits, private_weights=False).params.ring_degree == ring
    with pytest.raises((InvalidParameters, PrecisionLost)):
        compile_plan(shape, strategy, precision_bits=bits + 1, private_weights=False)
    said = (
        "at most 19 bits of a module of 2048:2048:16 for `rank_bsgs`, at N = 8192, and 16 for `zero_moai`, at N = 4096"
    )
    assert said in " ".join(PAGE.split())


@pytest.mark.parametrize(("name", "params"), [("FAST", presets.FAST), ("SAFE", presets.SAFE)])
def test_presets_have_the_security_shown(name: str, params: CKKSParams) -> None:
    classical = [table for table in TABLES if load_table(table).attacks == "classical"]
    (bits,) = {security_verdict(params, table=table).security_bits for table in classical}
    assert f"| `{name}` | {params.ring_degree} | {bits} bits |" in PAGE
