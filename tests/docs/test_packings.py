"""The counts in docs/packings.md are those that the compiler gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.manager import get_manager

PAGE = (Path(__file__).parents[2] / "docs" / "packings.md").read_text(encoding="utf-8")

PACKED = [
    # slots, d, r
    (4096, 512, 8),
    (4096, 1024, 16),
    (4096, 1536, 16),
    (4096, 1536, 32),
    (4096, 4096, 16),
    (4096, 4096, 64),
    (8192, 4096, 16),
]


def table(header: str) -> list[str]:
    """The rows below a header line."""
    lines = PAGE.splitlines()
    start = lines.index(header) + 2
    return lines[start : lines.index("", start)]


def row(*cells: int | float) -> str:
    return f"| {' | '.join(f'{cell:g}' for cell in cells)} |"


def plan(packing: str, slots: int, d: int, rank: int) -> Plan:
    shape = ModuleShape(d_in=d, d_out=d, rank=rank)
    return compile_plan(shape, get_manager().load_packing(packing), ring_degree=2 * slots)


def test_counts_of_rank_bsgs() -> None:
    expected = []
    for slots, d, rank in PACKED:
        compiled = plan("rank_bsgs", slots, d, rank)
        counts, tokens = compiled.counts, compiled.tokens_per_run
        assert (counts.keyswitches, counts.rescales, counts.encrypts, counts.decrypts) == (counts.rotations, 2, 1, 1)
        keys = len(compiled.rotation_steps)
        expected.append(row(slots, d, rank, counts.rotations, keys, tokens, counts.rotations / tokens, counts.ct_pt))
    assert table("| slots | d | r | rotations | keys | tokens/run | rotations/token | ct×pt |") == expected


def test_counts_of_zero_moai() -> None:
    expected = []
    for slots, d, rank in PACKED:
        compiled = plan("zero_moai", slots, d, rank)
        counts = compiled.counts
        assert (compiled.tokens_per_run, counts.encrypts, compiled.rotation_steps) == (1, 1, ())
        expected.append(row(slots, d, rank, counts.rotations, counts.ct_pt, counts.rescales, counts.decrypts))
    assert table("| slots | d | r | rotations | ct×pt | rescales | ciphertexts down |") == expected


@pytest.mark.parametrize("shape", ["1536:1536:16", "576:192:8", "192:576:5", "4096:11008:64", "100:7:1"])
def test_formulas_of_the_overview(shape: str) -> None:
    module = ModuleShape.parse(shape)
    bsgs = compile_plan(module, get_manager().load_packing("rank_bsgs"))
    d2, r2, n1 = (bsgs.layout.figures[name] for name in ("period", "padded_rank", "baby_steps"))
    assert bsgs.counts.rotations == 2 * ((n1 - 1) + (r2 // n1 - 1)) + (d2 // r2).bit_length() - 1
    assert (bsgs.counts.ct_pt, bsgs.tokens_per_run) == (2 * r2, bsgs.params.slots // d2)
    moai = compile_plan(module, get_manager().load_packing("zero_moai"))
    copies = min(moai.params.slots // module.d_in, module.rank)
    assert moai.counts.ct_pt == moai.counts.rescales == moai.counts.decrypts == -(-module.rank // copies)


def test_every_packing_of_core_has_a_section() -> None:
    core = [name for name, registered in get_manager().packings().items() if registered.plugin == "core"]
    assert [name for name in core if f"\n## {name}\n" not in PAGE] == []
