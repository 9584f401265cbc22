"""Packings choose splits by formulas of their own; the programs that come of them are counted here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import lower
from helora_core.compiler.cost import relative_cost
from helora_core.compiler.settings import settings_given
from helora_core.host.manager import get_manager
from helora_core.packing.baby_steps import best_baby_steps
from helora_core.packing.cheetah import Cheetah, CheetahLayout, InnerProducts, splits
from helora_core.packing.cheetah_two_round import CheetahTwoRound, CheetahTwoRoundLayout
from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import ScaleRole
from helora_core.params.ckks import CKKSParams

PARAMS = CKKSParams(ring_degree=1024, data_bits=(46, 44), special_bits=(20,), scale_bits=32)
"""Insecure, which no packing can see."""

N = PARAMS.ring_degree
COSTS = st.builds(OperationCosts, **dict.fromkeys(OperationCosts.__struct_fields__, st.integers(1, 50).map(float)))
SHAPES = st.builds(ModuleShape, d_in=st.integers(1, 1500), d_out=st.integers(1, 600), rank=st.integers(1, 9))

Made = CheetahLayout | CheetahTwoRoundLayout
Layouts = Callable[[ModuleShape, int], Iterator[Made]]


def one_round(shape: ModuleShape, tokens: int) -> Iterator[CheetahLayout]:
    for products in splits(shape.rank, shape.d_in, N, tokens):
        yield CheetahLayout(shape, products)


def two_rounds(shape: ModuleShape, tokens: int) -> Iterator[CheetahTwoRoundLayout]:
    groups = -(-shape.d_out // (N // (shape.rank * tokens)))
    up = InnerProducts(ScaleRole.UP, shape.d_out, shape.rank, shape.rank, -(-shape.d_out // groups), tokens)
    for down in splits(shape.rank, shape.d_in, N, tokens):
        yield CheetahTwoRoundLayout(shape, down, up)


@pytest.mark.parametrize(
    ("packing", "all_layouts"), [(Cheetah(), one_round), (CheetahTwoRound(), two_rounds)], ids=["one", "two"]
)
@pytest.mark.parametrize("sanitize_bits", [None, 40])
@given(shape=SHAPES, tokens=st.integers(1, 12), costs=COSTS)
def test_no_other_split_into_coefficients_costs_less(
    packing: Cheetah | CheetahTwoRound, all_layouts: Layouts, sanitize_bits: int | None, shape: ModuleShape,
    tokens: int, costs: OperationCosts,
) -> None:  # fmt: skip
    settings = settings_given(packing, PARAMS)
    if isinstance(packing, Cheetah):  # which asks for parameters that are never rescaled, unless some are given
        settings = replace(settings, rescales=False)

    def cost(layout: Made) -> float:
        program = next(lower(layout, packing, settings, sanitize_bits=sanitize_bits)).program
        # The packings count an addition for each product, also for the first of a sum.
        sums = (layout.products if isinstance(layout, CheetahLayout) else layout.down).groups
        return -(-tokens // layout.tokens_per_run) * (relative_cost(program, costs) + costs.add * sums)

    together = {min(1 << exponent, tokens, N // shape.rank) for exponent in range(5)}
    others = [layout for each in together for layout in all_layouts(shape, each)]
    chosen = list(packing.layouts(shape, PARAMS.slots, tokens=tokens, costs=costs))
    assert min(map(cost, chosen)) == min(map(cost, others))


@given(
    exponent=st.integers(0, 8), sources=st.integers(1, 9), sinks=st.integers(1, 9), decompose=st.integers(0, 50),
    product=st.integers(1, 50), divide=st.integers(0, 50),
)  # fmt: skip
def test_no_other_number_of_baby_steps_costs_less(
    exponent: int, sources: int, sinks: int, decompose: int, product: int, divide: int
) -> None:
    """The rotations counted one by one: all but the first of a source are of what is decomposed already."""
    costs = OperationCosts(decompose=decompose, key_product=product, divide=divide)

    def cost(baby_steps: int) -> float:
        babies = sum(decompose + product if step == 1 else product for step in range(1, baby_steps))
        giants = len(range(baby_steps, 1 << exponent, baby_steps))
        of_rotations = divide if baby_steps > 1 else 0
        return sources * babies + sinks * giants * (decompose + product + of_rotations)

    chosen = best_baby_steps(1 << exponent, sources=sources, sinks=sinks, costs=costs)
    assert cost(chosen) == min(cost(1 << each) for each in range(exponent + 1))


@pytest.mark.parametrize("name", ["halevi_shoup", "halevi_shoup_bsgs", "outer_product", "rank_bsgs"])
@given(shape=SHAPES)
def test_for_few_tokens_a_period_holds_the_widest_vector_as_far_as_slots_do(name: str, shape: ModuleShape) -> None:
    (layout,) = get_manager().load_packing(name).layouts(shape, 512, tokens=1, costs=OperationCosts())
    widest = max(shape.d_in, shape.d_out, shape.rank if name == "rank_bsgs" else 1)
    assert layout.figures["period"] == min(1 << (widest - 1).bit_length(), 512)
