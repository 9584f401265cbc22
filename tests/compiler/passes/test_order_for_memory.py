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
from helora_core.compiler.passes.order_for_memory import order_for_memory
from helora_core.packing.rank_bsgs import RankBSGS

Programs = st.SearchStrategy[Program]
PeakLive = Callable[[Program], int]


@given(st.data())
def test_no_operation_is_added_or_lost(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = (
        Counter((op.kind, len(op.args), op.steps, op.constant, op.role) for op in each.ops)
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
    reached = set(ordered.outputs)
    for i in reversed(range(len(ordered.ops))):
        reached.update(ordered.ops[i].args if i in reached else ())
    computed = [i in reached for i, op in enumerate(ordered.ops) if op.kind is not OpKind.INPUT]
    assert computed == sorted(computed, reverse=True)


def test_a_sum_takes_each_term_as_soon_as_it_exists(peak_live: PeakLive) -> None:
    builder = Builder(64)
    x = builder.input()
    builder.output(builder.sum([builder.rotate(x, steps) for steps in range(1, 33)]))
    program = builder.program()
    assert peak_live(program) == 33
    assert peak_live(order_for_memory(program)) == 4


@pytest.mark.parametrize(("shape", "emitted", "ordered"), [("512:512:8", 9, 7), ("4096:4096:64", 23, 12)])
def test_rank_bsgs_keeps_little_more_than_its_baby_steps_alive(
    peak_live: PeakLive, shape: str, emitted: int, ordered: int
) -> None:
    builder = Builder(4096)
    layout = RankBSGS().layout(ModuleShape.parse(shape), 4096)
    layout.emit(builder)
    assert peak_live(builder.program()) == emitted
    assert peak_live(order_for_memory(builder.program())) == ordered <= layout.baby_steps + 4
