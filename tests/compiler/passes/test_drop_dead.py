"""What no output depends on goes, and nothing else."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.builder import Builder
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.passes.drop_dead import drop_dead


def needed(program: Program, value: int) -> set[int]:
    """The value and all that it depends on."""
    return {value}.union(*(needed(program, arg) for arg in set(program.ops[value].args)))


def what(op: Op) -> tuple[object, ...]:
    return op.kind, op.steps, op.constant, op.constants, op.role, op.positions


@given(st.data())
def test_exactly_the_unreachable_is_dropped(programs: st.SearchStrategy[Program], data: st.DataObject) -> None:
    program = data.draw(programs)
    kept = set[int]().union(*(needed(program, output) for output in program.results))
    assert program.needed() == kept
    assert [what(op) for op in drop_dead(program).ops] == [what(program.ops[value]) for value in sorted(kept)]


def test_a_chain_that_leads_nowhere_goes_and_its_input_is_not_sent() -> None:
    builder = Builder(8)
    unused, used = builder.input(), builder.input()
    builder.rotate(builder.add(unused, builder.rotate(unused, 1)), 2)
    builder.output(builder.rotate(used, 1))
    dropped = drop_dead(builder.program())
    assert Counter(op.kind for op in dropped.ops) == {OpKind.INPUT: 1, OpKind.ROTATE: 1}
    assert dropped.input_positions == (1,)
