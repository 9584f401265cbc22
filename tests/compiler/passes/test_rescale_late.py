"""A sum of rescaled terms is rescaled once, unless somebody else reads a term."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.builder import Builder
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.passes.rescale_late import rescale_late
from helora_core.packing.protocol import ScaleRole, Value

Programs = st.SearchStrategy[Program]

UP = ScaleRole.UP


def product(builder: Builder, value: Value, constant: str) -> Value:
    return builder.rescale(builder.multiply_plain(value, constant, UP))


@pytest.mark.parametrize("terms", [2, 3, 8])
def test_a_sum_of_rescaled_products_is_rescaled_once(terms: int) -> None:
    builder = Builder(8)
    x = builder.input()
    builder.output(builder.sum([product(builder, x, f"c{i}") for i in range(terms)]))
    late = rescale_late(builder.program())
    kinds = [op.kind for op in late.ops]
    assert (kinds.count(OpKind.RESCALE), kinds[-1]) == (1, OpKind.RESCALE)
    assert (kinds.count(OpKind.MULTIPLY_PLAIN), kinds.count(OpKind.ADD)) == (terms, terms - 1)


def test_rescales_in_a_row_move_too() -> None:
    ops = (
        *(Op(kind=OpKind.INPUT, positions=(place,)) for place in range(2)),
        *(Op(kind=OpKind.RESCALE, args=(arg,)) for arg in range(4)),
        Op(kind=OpKind.ADD, args=(4, 5)),
    )
    late = rescale_late(Program(slots=8, ops=ops, outputs=(6,)))
    assert [op.kind.value for op in late.ops] == ["input", "input", "add", "rescale", "rescale"]


def test_terms_that_others_read_and_a_term_added_to_itself_stay() -> None:
    builder = Builder(8)
    x = builder.input()
    shared, other, doubled = (product(builder, x, name) for name in "abc")
    builder.output(shared)
    builder.output(builder.add(shared, other))
    builder.output(builder.add(doubled, doubled))
    assert rescale_late(builder.program()) == builder.program()


def test_a_term_that_is_not_rescaled_stays_outside() -> None:
    builder = Builder(8)
    x = builder.input()
    builder.output(builder.add(product(builder, x, "a"), x))
    assert rescale_late(builder.program()) == builder.program()


@given(st.data())
def test_only_rescales_become_fewer(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = (
        [op.kind for op in each.ops if op.kind is not OpKind.RESCALE] for each in (program, rescale_late(program))
    )
    assert sorted(after) == sorted(before)
    assert count_operations(rescale_late(program)).rescales <= count_operations(program).rescales


@given(st.data())
def test_no_sum_of_two_rescaled_terms_is_left(programs: Programs, data: st.DataObject) -> None:
    late = rescale_late(data.draw(programs))
    readers = late.readers()
    for op in late.ops:
        if op.kind is OpKind.ADD:
            assert any(late.ops[arg].kind is not OpKind.RESCALE or readers[arg] > 1 for arg in op.args)
