"""Equal operations on equal operands run once; inputs are never equal."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.builder import Builder
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.passes.share_common import share_common
from helora_core.packing.protocol import ScaleRole

Programs = st.SearchStrategy[Program]


def what(op: Op) -> tuple[object, ...]:
    """What an operation computes of what; sums do not care about order."""
    args = tuple(sorted(op.args)) if op.kind is OpKind.ADD else op.args
    return op.kind, args, op.steps, op.constant, op.constants, op.role, op.positions


FRESH = (OpKind.INPUT, OpKind.SANITIZE, OpKind.MASK, OpKind.ASK_CLIENT)


@given(st.data())
def test_no_operation_is_left_twice(programs: Programs, data: st.DataObject) -> None:
    shared = share_common(data.draw(programs))
    done = [what(op) for op in shared.ops if op.kind not in FRESH]
    assert len(done) == len(set(done))


@given(st.data())
def test_inputs_and_fresh_randomness_are_never_merged(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = ([op.kind for op in each.ops if op.kind in FRESH] for each in (program, share_common(program)))
    assert after == before


@given(st.data())
def test_nothing_is_added(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = ({what(op)[0:1] + what(op)[2:] for op in each.ops} for each in (program, share_common(program)))
    assert before == after
    assert len(share_common(program).ops) <= len(program.ops)


def test_repeated_rotations_sums_products_and_rescales_are_shared() -> None:
    builder = Builder(8)
    x, y = builder.input(), builder.input()
    for left, right in ((x, y), (y, x)):
        turned = builder.rotate(builder.add(left, right), 3)
        builder.output(builder.rescale(builder.multiply_plain(turned, "c", ScaleRole.UP)))
    shared = share_common(builder.program())
    assert [op.kind.value for op in shared.ops] == ["input", "input", "add", "rotate", "multiply_plain", "rescale"]
    assert shared.outputs == (5, 5)


def test_repeated_fused_sums_are_shared_and_those_of_other_plaintexts_or_numbers_are_not() -> None:
    inputs = tuple(Op(kind=OpKind.INPUT, positions=(place,)) for place in range(2))
    dot = Op(kind=OpKind.DOT_PLAIN, args=(0, 1), constants=("a", "b"), role=ScaleRole.UP)
    numbers = Op(kind=OpKind.DOT_SCALARS, args=(0, 1), constant="v", role=ScaleRole.UP, positions=(0, 1))
    differing = (
        dot,
        msgspec.structs.replace(dot, constants=("b", "a")),
        numbers,
        msgspec.structs.replace(numbers, positions=(1, 0)),
    )
    ops = (*inputs, *differing, *differing)
    shared = share_common(Program(slots=8, ops=ops, outputs=tuple(range(2, 10))))
    assert shared == Program(slots=8, ops=(*inputs, *differing), outputs=(2, 3, 4, 5, 2, 3, 4, 5))


def test_operations_that_differ_in_anything_are_not_shared() -> None:
    builder = Builder(8)
    x, y = builder.input(), builder.input()
    for value in (
        *(builder.rotate(x, steps) for steps in (1, 2)),
        builder.rotate(y, 1),
        *(builder.multiply_plain(x, name, role) for name in ("a", "b") for role in ScaleRole),
        builder.add(x, x),
        builder.add(x, y),
    ):
        builder.output(value)
    assert share_common(builder.program()) == builder.program()
