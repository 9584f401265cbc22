"""The builder writes down what a packing says, and normalises rotation steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.capabilities import Encoding
from helora_core.compiler.builder import Builder
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.errors import InvalidProgram
from helora_core.execution.reference import execute_plain
from helora_core.packing.protocol import ScaleRole

SLOTS = 8
any_steps = st.one_of(st.integers(-3 * SLOTS, 3 * SLOTS), st.integers())


def rotated(steps: int) -> Program:
    builder = Builder(SLOTS)
    builder.output(builder.rotate(builder.input(), steps))
    return builder.program()


@given(any_steps)
def test_steps_are_brought_to_1_to_slots_minus_1(steps: int) -> None:
    assert all(0 < step < SLOTS for step in rotated(steps).rotation_steps)


@given(any_steps)
def test_any_steps_rotate_left_cyclically(steps: int) -> None:
    slots = np.arange(SLOTS, dtype=np.float64)
    (result,) = execute_plain(rotated(steps), [slots], {})
    assert result.tolist() == [(i + steps) % SLOTS for i in range(SLOTS)]


@pytest.mark.parametrize("steps", [0, SLOTS, -SLOTS, 5 * SLOTS])
def test_a_multiple_of_the_slot_count_is_the_value_itself(steps: int) -> None:
    builder = Builder(SLOTS)
    value = builder.input()
    assert builder.rotate(value, steps) == value
    assert len(builder.program().ops) == 1


def test_a_sum_runs_from_left_to_right() -> None:
    builder = Builder(SLOTS)
    values = [builder.input() for _ in range(3)]
    builder.output(builder.sum(values))
    assert [op.args for op in builder.program().ops[3:]] == [(0, 1), (3, 2)]


def test_a_sum_of_one_value_is_the_value() -> None:
    builder = Builder(SLOTS)
    value = builder.input()
    assert builder.sum([value]) == value
    assert len(builder.program().ops) == 1


def test_a_sum_of_nothing_is_refused(refused: Callable[..., AbstractContextManager[None]]) -> None:
    with refused(InvalidProgram, "sum of no values", hint="author of the packing"):
        Builder(SLOTS).sum([])
    with refused(InvalidProgram, "sum of no values", hint="author of the packing"):
        Builder(SLOTS).dot_scalars([], "v", ScaleRole.DOWN)


def test_the_program_is_what_was_emitted_in_order() -> None:
    builder = Builder(SLOTS)
    first, second = builder.input(), builder.input()
    product = builder.rescale(builder.multiply_plain(second, "up.3", ScaleRole.UP))
    builder.output(product)
    builder.output(builder.add(first, builder.rotate(second, -1)))
    assert builder.program() == Program(
        slots=SLOTS,
        ops=(
            Op(kind=OpKind.INPUT, positions=(0,)),
            Op(kind=OpKind.INPUT, positions=(1,)),
            Op(kind=OpKind.MULTIPLY_PLAIN, args=(1,), constant="up.3", role=ScaleRole.UP),
            Op(kind=OpKind.RESCALE, args=(2,)),
            Op(kind=OpKind.ROTATE, args=(1,), steps=SLOTS - 1),
            Op(kind=OpKind.ADD, args=(0, 4)),
        ),
        outputs=(3, 5),
    )


def test_questions_masks_and_sums_of_numbers_are_written_down_too() -> None:
    builder = Builder(SLOTS, encoding=Encoding.COEFFICIENTS)
    x, y = builder.input(), builder.input()
    masked = builder.mask(builder.dot_scalars([x, y, x], "v", ScaleRole.DOWN), "z.0")
    answer = builder.ask_client([masked, y])
    builder.output(builder.unmask(answer, ["z.0", "z.1"]), keep=[3, 1])
    assert builder.program() == Program(
        slots=SLOTS,
        ops=(
            Op(kind=OpKind.INPUT, positions=(0,)),
            Op(kind=OpKind.INPUT, positions=(1,)),
            Op(kind=OpKind.DOT_SCALARS, args=(0, 1, 0), constant="v", role=ScaleRole.DOWN, positions=(0, 1, 2)),
            Op(kind=OpKind.MASK, args=(2,), constant="z.0"),
            Op(kind=OpKind.ASK_CLIENT, args=(3, 1)),
            Op(kind=OpKind.UNMASK, args=(4,), constants=("z.0", "z.1")),
        ),
        outputs=(5,),
        encoding=Encoding.COEFFICIENTS,
    )


def test_a_flat_plan_has_no_rescales() -> None:
    builder = Builder(SLOTS, rescales=False)
    value = builder.input()
    assert builder.rescale(value) == value
    assert len(builder.program().ops) == 1


@pytest.mark.parametrize("keep", [(), (0, 7)])
def test_every_result_of_a_sanitised_plan_is_sanitised(keep: tuple[int, ...]) -> None:
    builder = Builder(SLOTS, sanitize_bits=40)
    x = builder.input()
    builder.output(x, keep=keep)
    builder.output(x)
    program = builder.program()
    assert program.ops[1:] == (
        Op(kind=OpKind.SANITIZE, args=(0,), positions=keep, bits=40),
        Op(kind=OpKind.SANITIZE, args=(0,), bits=40),
    )
    assert program.outputs == (1, 2)
