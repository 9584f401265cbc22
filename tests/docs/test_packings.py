"""The counts in docs/packings.md are those that the compiler gives."""

from __future__ import annotations

from pathlib import Path

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.host.manager import get_manager
from tests.registered import ACCEPTED

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
    return compile_plan(shape, get_manager().load_packing(packing), ring_degree=2 * slots, private_weights=False)


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


def test_counts_of_cpmm() -> None:
    expected = []
    for slots, d, rank in PACKED[:6]:
        compiled = plan("cpmm", slots, d, rank)
        counts = compiled.counts
        assert (counts.rotations, compiled.rotation_steps, compiled.tokens_per_run) == (0, (), slots)
        sent = (counts.encrypts, counts.decrypts)
        expected.append(row(slots, d, rank, counts.ct_pt, counts.rescales, *sent, counts.ct_pt / slots))
    header = "| slots | d | r | products | rescales | ciphertexts up | ciphertexts down | products/token |"
    assert table(header) == expected


def test_counts_of_merged_diagonals() -> None:
    expected = []
    for slots, d in ((4096, 512), (4096, 1024), (4096, 1536), (4096, 4096), (8192, 4096)):
        plain, split = (plan(packing, slots, d, 8) for packing in ("halevi_shoup", "halevi_shoup_bsgs"))
        assert plain.counts.ct_pt == split.counts.ct_pt
        turned = [each for it in (plain, split) for each in (it.counts.rotations, len(it.rotation_steps))]
        expected.append(row(slots, d, *turned, plain.tokens_per_run, plain.counts.ct_pt))
    header = "| slots | d | rotations | keys | rotations, `_bsgs` | keys, `_bsgs` | tokens/run | ct×pt |"
    assert table(header) == expected


def test_counts_of_outer_product() -> None:
    expected = []
    for slots, d, rank in PACKED:
        compiled = plan("outer_product", slots, d, rank)
        counts, keys = compiled.counts, len(compiled.rotation_steps)
        cells = (counts.rotations, keys, counts.rescales, compiled.tokens_per_run, counts.ct_pt)
        expected.append(row(slots, d, rank, *cells))
    assert table("| slots | d | r | rotations | keys | rescales | tokens/run | ct×pt |") == expected


COEFFICIENTS = [
    # d, r, tokens
    (512, 8, 1),
    (1024, 16, 1),
    (1536, 16, 1),
    (1536, 16, 64),
    (4096, 16, 1),
    (4096, 64, 1),
]


def test_counts_of_cheetah() -> None:
    expected = []
    for d, rank, tokens in COEFFICIENTS:
        shape = ModuleShape(d_in=d, d_out=d, rank=rank)
        compiled = compile_plan(shape, get_manager().load_packing("cheetah"), tokens=tokens, private_weights=False)
        counts = compiled.counts
        assert (counts.rotations, counts.rescales, compiled.tokens_per_run) == (0, 0, tokens)
        sent = (counts.encrypts, counts.decrypts)
        expected.append(row(d, rank, tokens, compiled.params.ring_degree, counts.ct_pt, *sent))
    assert table("| d | r | tokens | ring | products | ciphertexts up | ciphertexts down |") == expected


def test_counts_of_cheetah_two_round() -> None:
    expected = []
    for d, rank, tokens in [(d, rank, min(tokens, 8)) for d, rank, tokens in COEFFICIENTS]:
        shape = ModuleShape(d_in=d, d_out=d, rank=rank)
        compiled = compile_plan(
            shape, get_manager().load_packing("cheetah_two_round"), tokens=tokens, private_weights=False
        )
        counts = compiled.counts
        assert (counts.rotations, len(compiled.rounds), compiled.tokens_per_run) == (0, 2, tokens)
        assert counts.rescales == counts.sanitizes
        sent = (counts.encrypts, counts.decrypts, counts.sanitizes)
        expected.append(row(d, rank, tokens, compiled.params.ring_degree, counts.ct_pt, *sent))
    assert table("| d | r | tokens | ring | products | ciphertexts up | ciphertexts down | masks |") == expected


def test_every_packing_of_core_has_a_section() -> None:
    core = [name for name, registered in get_manager().packings().items() if registered.plugin == "core"]
    assert [name for name in core if f"\n## {name}\n" not in PAGE] == []


AHEAD = [
    # shape, packing, ring
    ("576:768:16", "precomputed", 8192),
    ("576:768:16", "precomputed", 4096),
    ("576:768:16", "precomputed_exact", 8192),
    ("1536:1536:32", "precomputed", 8192),
    ("4096:4096:16", "precomputed", 8192),
    ("11008:4096:16", "precomputed", 8192),
]


def figures_ahead(name: str, packing: str, ring: int) -> str:
    """A row of the table of plans that run ahead of time."""
    shape, strategy = ModuleShape.parse(name), get_manager().load_packing(packing)
    compiled = compile_plan(shape, strategy, ring_degree=ring, precision_bits=0, assume=ACCEPTED)
    assert compiled.correlation is not None
    grid = compiled.correlation.grid
    phases = compiled.to_dict()["phases"]
    ahead, online = phases["offline"], phases["online"]
    cells = (
        name, f"`{packing}`", ring, f"{compiled.precision().bits:.1f}",
        f"{grid.x_bits}, {grid.down_bits}, {grid.up_bits}", compiled.correlation.answer_bits,
        f"2^-{compiled.correlation.distance_bits:.0f}",
        f"{ahead['bytes_up_per_token']}, {ahead['bytes_down_per_token']}", ahead["kept_bytes_per_token"],
        f"{online['bytes_up_per_token']}, {online['bytes_down_per_token']}", compiled.queries_to_copy(14),
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def test_figures_of_precomputed() -> None:
    header = next(line for line in PAGE.splitlines() if line.startswith("| d_in:d_out:r | packing | N |"))
    assert table(header) == [figures_ahead(*case) for case in AHEAD]
