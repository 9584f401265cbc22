"""Planning ends soon and takes little memory, whatever is asked for; and changes nothing of what is in reach."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan, emitted_cost, lower
from helora_core.compiler.cost import relative_cost
from helora_core.compiler.ir import Program
from helora_core.compiler.limits import (
    LARGEST_DIMENSION,
    Meter,
    MeteredBuilder,
    TooCostly,
    cheapest,
    check_shape,
    together_within,
)
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.compiler.settings import settings_for
from helora_core.errors import HeloraError, ProgramTooLarge
from helora_core.host.manager import get_manager
from helora_core.packing.cheetah import InnerProducts, splits
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.interleaved import blocks
from helora_core.packing.protocol import Layout, ScaleRole

SHAPE = ModuleShape.parse("512:300:16")
every_packing = pytest.mark.parametrize("packing", sorted(get_manager().packings()))


@pytest.mark.parametrize(
    "shape", ["300001:8:1", "8:1000000:16", "999999999:999999999:16", "999999999:999999999:999999999"]
)
def test_a_module_that_no_model_has_is_refused(refused: Any, shape: str) -> None:
    with refused(ProgramTooLarge, shape, str(LARGEST_DIMENSION), hint="d_in:d_out:r"):
        check_shape(ModuleShape.parse(shape))


def test_vocabularies_are_in_reach() -> None:
    shape = ModuleShape.parse("5376:262208:16")
    assert compile_plan(shape, get_manager().load_packing("rank_bsgs"), precision_bits=8).counts.rotations < 100


@every_packing
@pytest.mark.parametrize("shape", ["300000:300000:16", "4096:4096:100000"])
def test_whatever_the_shape_a_program_is_short_or_refused(packing: str, shape: str) -> None:
    try:
        plan = compile_plan(
            ModuleShape.parse(shape), get_manager().load_packing(packing), tokens=1 << 31, precision_bits=8
        )
    except HeloraError:
        return
    assert len(plan.program.ops) < 200_000


@every_packing
@pytest.mark.parametrize("tokens", [1, 64, 5000])
@pytest.mark.parametrize("costs", [DEFAULT_COSTS, OperationCosts(key_product=0.001)])
def test_the_layout_is_that_of_least_cost(packing: str, tokens: int, costs: OperationCosts) -> None:
    """What is not emitted to its end could not have been chosen."""
    strategy = get_manager().load_packing(packing)
    request = PlanRequest(
        shape=SHAPE, tokens=(tokens,), constraints=Constraints(target_bits=8, sanitize_bits=20), costs=costs
    )
    settings = settings_for(request, strategy)
    priced = []
    for layout in strategy.layouts(SHAPE, settings.params.slots, tokens=tokens, costs=costs):
        emitted = next(lower(layout, strategy, settings, sanitize_bits=20)).program
        priced.append(-(-tokens // layout.tokens_per_run) * relative_cost(emitted, costs))
    assert emitted_cost(request, strategy, settings) == min(priced)
    assert emitted_cost(request, strategy, settings, most=min(priced)) == min(priced)
    assert emitted_cost(request, strategy, settings, most=min(priced) * 0.99) == float("inf")


@hypothesis.given(height=st.integers(1, 300), columns=st.integers(1, 500), log_ring=st.integers(4, 9), log=st.data())
def test_splits_are_those_of_every_number_of_ciphertexts_down(
    height: int, columns: int, log_ring: int, log: st.DataObject
) -> None:
    ring, tokens = 1 << log_ring, 1 << log.draw(st.integers(0, log_ring))
    expected = []
    for groups in range(1, height + 1):
        rows = blocks(height, groups)
        if room := ring // (rows * tokens):
            width = blocks(columns, blocks(columns, room))
            expected.append(InnerProducts(ScaleRole.DOWN, height, columns, width, rows, tokens))
    assert list(splits(height, columns, ring, tokens)) == list(dict.fromkeys(expected))


class _Lines:
    """A layout of any number of inputs that are added up."""

    tokens_per_run = 1

    def __init__(self, length: int) -> None:
        self.length = length

    def emit(self, builder: Any) -> None:
        builder.output(builder.sum([builder.input() for _ in range(self.length)]))


def _emit(layout: Any, meter: Meter) -> Program:
    builder = MeteredBuilder(meter, 8)
    layout.emit(builder)
    return builder.program()


def _chosen(*lengths: int, **options: Any) -> int | None:
    layouts: Any = map(_Lines, lengths)
    found = cheapest(layouts, _emit, tokens=1, costs=DEFAULT_COSTS, **options)
    layout: Layout | None = found and found[1]
    return None if layout is None else layout.length  # type: ignore[attr-defined]


def test_layouts_after_one_that_is_too_large_are_not_looked_at() -> None:
    def lengths() -> Any:
        yield _Lines(9)
        yield _Lines(10**9)
        pytest.fail("the search went on")

    found = cheapest(lengths(), lambda each, _: _emit(each, Meter()), tokens=1, costs=DEFAULT_COSTS)
    assert found is not None


def test_where_the_first_is_too_large_there_is_none(refused: Any) -> None:
    with refused(ProgramTooLarge, "operations", hint="helora explain"):
        _chosen(10**9, 9)


def test_what_costs_too_much_is_left_unfinished() -> None:
    with pytest.raises(TooCostly):
        _emit(_Lines(10**9), Meter(DEFAULT_COSTS, 100 * DEFAULT_COSTS.encrypt))
    assert _chosen(9, 5, 7) == 5
    assert _chosen(9, 5, 7, most=0.0) is None


def test_all_that_is_emitted_in_a_block_counts_together(refused: Any) -> None:
    with together_within(100):
        for _ in range(3):
            _emit(_Lines(12), Meter())
        with refused(ProgramTooLarge, "operations"):
            _emit(_Lines(50), Meter())


def test_an_inner_block_has_no_more_than_is_left_outside(refused: Any) -> None:
    with together_within(100):
        with together_within(60):
            _emit(_Lines(20), Meter())
        with together_within(1000), refused(ProgramTooLarge, "operations"):
            _emit(_Lines(40), Meter())
    _emit(_Lines(1000), Meter())
