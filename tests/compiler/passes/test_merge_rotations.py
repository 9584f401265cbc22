"""Rotations in a row are one, a sum of values rotated alike is rotated once, and what others read stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.builder import Builder
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.passes.merge_rotations import merge_rotations

Programs = st.SearchStrategy[Program]

SLOTS = 16
steps = st.integers(1, SLOTS - 1)


@given(st.lists(steps, min_size=2, max_size=6))
def test_rotations_in_a_row_are_one_or_none(row: list[int]) -> None:
    builder = Builder(SLOTS)
    value = builder.input()
    for each in row:
        value = builder.rotate(value, each)
    builder.output(value)
    merged = merge_rotations(builder.program())
    total = sum(row) % SLOTS
    assert merged.rotation_steps == ((total,) if total else ())
    assert len(merged.ops) == (2 if total else 1)


def test_a_rotation_that_another_reads_is_kept_and_nothing_is_gained() -> None:
    builder = Builder(SLOTS)
    once = builder.rotate(builder.input(), 1)
    builder.output(once)
    builder.output(builder.rotate(once, 2))
    assert merge_rotations(builder.program()) == builder.program()


@pytest.mark.parametrize(("terms", "steps"), [(2, 1), (3, 3), (8, SLOTS - 1)])
def test_a_sum_of_values_rotated_alike_is_rotated_once(terms: int, steps: int) -> None:
    builder = Builder(SLOTS)
    values = [builder.input() for _ in range(terms)]
    builder.output(builder.sum([builder.rotate(value, steps) for value in values]))
    merged = merge_rotations(builder.program())
    assert [op.kind for op in merged.ops] == [OpKind.INPUT] * terms + [OpKind.ADD] * (terms - 1) + [OpKind.ROTATE]
    assert merged.ops[-1].steps == steps


def test_terms_rotated_otherwise_or_read_by_others_stay() -> None:
    builder = Builder(SLOTS)
    x, y = builder.input(), builder.input()
    shared = builder.rotate(x, 3)
    builder.output(builder.add(builder.rotate(x, 1), builder.rotate(y, 2)))
    builder.output(builder.add(shared, builder.rotate(y, 3)))
    builder.output(builder.add(shared, shared))
    assert merge_rotations(builder.program()) == builder.program()


def test_what_a_merge_makes_possible_is_merged_too() -> None:
    """Two giant steps of one size, and the whole rotated again: three rotations become one."""
    builder = Builder(SLOTS)
    x, y = builder.input(), builder.input()
    both = builder.add(builder.rotate(x, 4), builder.rotate(y, 4))
    builder.output(builder.rotate(both, 5))
    assert merge_rotations(builder.program()) == Program(
        slots=SLOTS,
        ops=(
            *(Op(kind=OpKind.INPUT, positions=(place,)) for place in range(2)),
            Op(kind=OpKind.ADD, args=(0, 1)),
            Op(kind=OpKind.ROTATE, args=(2,), steps=9),
        ),
        outputs=(3,),
    )


def test_an_output_that_is_turned_all_around_is_the_value_itself() -> None:
    builder = Builder(SLOTS)
    builder.output(builder.rotate(builder.rotate(builder.input(), 5), SLOTS - 5))
    merged = merge_rotations(builder.program())
    assert (len(merged.ops), merged.outputs) == (1, (0,))


@given(st.data())
def test_only_rotations_become_fewer(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = count_operations(program), count_operations(merge_rotations(program))
    assert after.rotations <= before.rotations
    assert (after.ct_pt, after.additions, after.rescales, after.sanitizes) == (
        before.ct_pt,
        before.additions,
        before.rescales,
        before.sanitizes,
    )


@given(st.data())
def test_no_two_rotations_with_nothing_else_between_are_left(programs: Programs, data: st.DataObject) -> None:
    merged = merge_rotations(data.draw(programs))
    readers = merged.readers()
    for op in merged.ops:
        inner = [merged.ops[arg] for arg in op.args if readers[arg] == 1 and merged.ops[arg].kind is OpKind.ROTATE]
        if op.kind is OpKind.ROTATE:
            assert not inner
        elif op.kind is OpKind.ADD:
            assert len(inner) < 2 or inner[0].steps != inner[1].steps
