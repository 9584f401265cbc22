"""A sum of products becomes one operation, that costs what they did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.builder import Builder
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import Op, OpKind, Program, plaintexts
from helora_core.compiler.passes.fuse_dots import fuse_dots
from helora_core.packing.protocol import ScaleRole

Programs = st.SearchStrategy[Program]

DOWN, UP = ScaleRole.DOWN, ScaleRole.UP


@given(st.data())
def test_the_counts_are_the_same(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    assert count_operations(fuse_dots(program)) == count_operations(program)


@given(st.data())
def test_the_plaintexts_are_the_same(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = (
        sorted((name, op.role) for op in each.ops for name in plaintexts(op)) for each in (program, fuse_dots(program))
    )
    assert before == after


@given(st.data())
def test_no_sum_of_two_products_that_only_it_reads_is_left(programs: Programs, data: st.DataObject) -> None:
    fused = fuse_dots(data.draw(programs))
    readers = fused.readers()
    for op in fused.ops:
        if op.kind is OpKind.ADD and op.args[0] != op.args[1]:
            terms = [fused.ops[arg] for arg in op.args]
            alone = all(readers[arg] == 1 for arg in op.args)
            products = all(term.kind is OpKind.MULTIPLY_PLAIN for term in terms)
            assert not (alone and products and terms[0].role is terms[1].role)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_sum_is_fused_in_the_order_of_its_terms(balanced: bool) -> None:
    builder = Builder(8)
    x, y = builder.input(), builder.input()
    a, b, c, d = (builder.multiply_plain(value, name, UP) for value, name in zip((x, y, x, y), "abcd", strict=True))
    total = builder.add(builder.add(a, b), builder.add(c, d)) if balanced else builder.sum([a, b, c, d])
    builder.output(total)
    assert fuse_dots(builder.program()) == Program(
        slots=8,
        ops=(
            *(Op(kind=OpKind.INPUT, positions=(place,)) for place in range(2)),
            Op(kind=OpKind.DOT_PLAIN, args=(0, 1, 0, 1), constants=("a", "b", "c", "d"), role=UP),
        ),
        outputs=(2,),
    )


def test_terms_of_another_kind_are_added_afterwards() -> None:
    builder = Builder(8)
    x, y = builder.input(), builder.input()
    products = [builder.multiply_plain(x, name, UP) for name in "ab"]
    builder.output(builder.add(builder.sum(products), y))
    assert [op.kind.value for op in fuse_dots(builder.program()).ops] == ["input", "input", "dot_plain", "add"]


def test_products_of_another_role_or_that_others_read_stay_outside() -> None:
    builder = Builder(8)
    x = builder.input()
    builder.output(builder.add(builder.multiply_plain(x, "a", UP), builder.multiply_plain(x, "b", DOWN)))
    shared = builder.multiply_plain(x, "c", UP)
    builder.output(builder.add(shared, builder.multiply_plain(x, "d", UP)))
    builder.output(shared)
    doubled = builder.multiply_plain(x, "e", UP)
    builder.output(builder.add(doubled, doubled))
    assert fuse_dots(builder.program()) == builder.program()


def test_one_product_alone_is_left_as_it_is() -> None:
    builder = Builder(8)
    builder.output(builder.multiply_plain(builder.input(), "a", UP))
    assert fuse_dots(builder.program()) == builder.program()


def test_inner_sums_are_operations_of_their_own_where_they_are_rotated() -> None:
    """As in baby-step giant-step: each giant step is one fused sum."""
    builder = Builder(8)
    x = builder.input()
    giants = [builder.sum([builder.multiply_plain(x, f"{giant}.{i}", UP) for i in range(3)]) for giant in range(2)]
    builder.output(builder.add(giants[0], builder.rotate(giants[1], 2)))
    kinds = [op.kind.value for op in fuse_dots(builder.program()).ops]
    assert kinds == ["input", "dot_plain", "dot_plain", "rotate", "add"]
