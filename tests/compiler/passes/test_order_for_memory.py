"""The order is another, the operations are the same, and fewer ciphertexts are alive at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.builder import Builder
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.passes.order_for_memory import HOISTED_AT_ONCE, order_for_memory
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import ScaleRole
from helora_core.packing.rank_bsgs import RankBSGS

Programs = st.SearchStrategy[Program]
PeakLive = Callable[[Program], int]


@given(st.data())
def test_no_operation_is_added_or_lost(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = (
        Counter((op.kind, len(op.args), op.steps, op.constant, op.constants, op.role, op.positions) for op in each.ops)
        for each in (program, order_for_memory(program))
    )
    assert before == after


@given(st.data())
def test_inputs_come_first(programs: Programs, data: st.DataObject) -> None:
    ordered = order_for_memory(data.draw(programs))
    assert ordered.inputs == tuple(range(len(ordered.inputs)))


@given(st.data())
def test_what_no_output_needs_comes_last(programs: Programs, data: st.DataObject) -> None:
    ordered = order_for_memory(data.draw(programs))
    reached = ordered.needed()
    computed = [i in reached for i, op in enumerate(ordered.ops) if op.kind is not OpKind.INPUT]
    assert computed == sorted(computed, reverse=True)


@given(st.data())
def test_needed_rotations_of_one_value_are_neighbours(programs: Programs, data: st.DataObject) -> None:
    """A backend that hoists does each such group in one go."""
    ordered = order_for_memory(data.draw(programs))
    needed = ordered.needed()
    sources = [ordered.ops[group[0]].args for group in ordered.hoisted_groups() if group[0] in needed]
    assert len(sources) == len(set(sources))


def test_no_more_than_64_rotations_are_alive_for_hoisting() -> None:
    builder = Builder(256)
    x = builder.input()
    builder.output(builder.sum([builder.rotate(x, steps) for steps in range(1, 201)]))
    ordered = order_for_memory(builder.program())
    assert [len(group) for group in ordered.hoisted_groups()] == [64, 64, 64, 8]
    assert HOISTED_AT_ONCE == 64


@pytest.mark.parametrize("terms", [3, 32, 200])
def test_a_sum_takes_each_term_as_soon_as_it_exists(peak_live: PeakLive, terms: int) -> None:
    builder = Builder(64)
    x = builder.input()
    builder.output(builder.sum([builder.multiply_plain(x, f"c{i}", ScaleRole.UP) for i in range(terms)]))
    program = builder.program()
    assert peak_live(program) == terms + 1
    assert peak_live(order_for_memory(program)) == 4


def test_a_sum_of_rotations_keeps_a_hoisted_group_and_a_few_alive(peak_live: PeakLive) -> None:
    builder = Builder(512)
    x = builder.input()
    builder.output(builder.sum([builder.rotate(x, steps) for steps in range(1, 301)]))
    program = builder.program()
    assert peak_live(program) == 301
    assert peak_live(order_for_memory(program)) <= HOISTED_AT_ONCE + 4


@pytest.mark.parametrize(("shape", "emitted", "ordered"), [("512:512:8", 9, 7), ("4096:4096:64", 23, 12)])
def test_rank_bsgs_keeps_little_more_than_its_baby_steps_alive(
    peak_live: PeakLive, shape: str, emitted: int, ordered: int
) -> None:
    builder = Builder(4096)
    (layout,) = RankBSGS().layouts(ModuleShape.parse(shape), 4096, tokens=None, costs=DEFAULT_COSTS)
    layout.emit(builder)
    assert peak_live(builder.program()) == emitted
    assert peak_live(order_for_memory(builder.program())) == ordered
    assert ordered <= max(layout.baby_steps_down, layout.baby_steps_up) + 4
