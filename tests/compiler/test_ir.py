"""The program as data: who reads what last, numbering, and its text."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.capabilities import Encoding
from helora_core.compiler.builder import Builder
from helora_core.compiler.ir import (
    Op,
    OpKind,
    Program,
    additions,
    plaintexts,
    products,
    readable,
    renumber,
    with_args,
)
from helora_core.packing.protocol import ScaleRole

Programs = st.SearchStrategy[Program]

EXAMPLE = Program(
    slots=8,
    ops=(
        Op(kind=OpKind.INPUT, positions=(0,)),
        Op(kind=OpKind.INPUT, positions=(2,)),
        Op(kind=OpKind.ROTATE, args=(0,), steps=3),
        Op(kind=OpKind.MULTIPLY_PLAIN, args=(2,), constant="down.0", role=ScaleRole.DOWN),
        Op(kind=OpKind.RESCALE, args=(3,)),
        Op(kind=OpKind.ADD, args=(4, 4)),
        Op(kind=OpKind.ROTATE, args=(1,), steps=1),
    ),
    outputs=(5, None, 0),
)
FURTHER = Program(
    slots=8,
    ops=(
        Op(kind=OpKind.INPUT, positions=(0,)),
        Op(kind=OpKind.INPUT, positions=(1,)),
        Op(kind=OpKind.DOT_PLAIN, args=(0, 1), constants=("a", "b"), role=ScaleRole.DOWN),
        Op(kind=OpKind.DOT_SCALARS, args=(0, 1, 0), constant="v", role=ScaleRole.DOWN, positions=(2, 0, 1)),
        Op(kind=OpKind.MASK, args=(2,), constant="z.0"),
        Op(kind=OpKind.ASK_CLIENT, args=(4, 3)),
        Op(kind=OpKind.UNMASK, args=(5,), constants=("z.0", "z.1")),
        Op(kind=OpKind.SANITIZE, args=(6,), positions=(1, 3), bits=40),
        Op(kind=OpKind.SANITIZE, args=(6,), bits=30),
        Op(kind=OpKind.DOT_PLAIN, args=(0,) * 12, constants=tuple(f"c{i}" for i in range(12)), role=ScaleRole.DOWN),
    ),
    outputs=(7, 8),
    encoding=Encoding.COEFFICIENTS,
)
"""The kinds that EXAMPLE has not; as text only."""
INPUT_ALONE = Program(slots=8, ops=(Op(kind=OpKind.INPUT, positions=(0,)),), outputs=(0,))


def test_inputs_are_in_the_order_sent() -> None:
    assert EXAMPLE.inputs == (0, 1)
    assert EXAMPLE.input_positions == (0, 2)


def test_results_are_the_outputs_that_are_not_zero() -> None:
    assert EXAMPLE.results == (5, 0)


def test_an_output_is_read_once_more() -> None:
    assert EXAMPLE.readers() == [2, 1, 1, 1, 2, 1, 0]


def test_needed_is_what_an_output_depends_on() -> None:
    assert EXAMPLE.needed() == {0, 2, 3, 4, 5}


def test_neighbouring_rotations_of_one_value_are_a_group() -> None:
    builder = Builder(8)
    x, y = builder.input(), builder.input()
    for value, steps in ((x, 1), (x, 2), (y, 1), (y, 3)):
        builder.rotate(value, steps)
    builder.rotate(builder.add(x, y), 1)
    builder.output(builder.rotate(x, 4))
    assert list(builder.program().hoisted_groups()) == [range(2, 4), range(4, 6), range(7, 8), range(8, 9)]


@given(st.data())
def test_groups_hold_every_rotation_once(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    groups = list(program.hoisted_groups())
    rotations = [i for i, op in enumerate(program.ops) if op.kind is OpKind.ROTATE]
    assert [i for group in groups for i in group] == rotations
    for group in groups:
        assert len({program.ops[i].args for i in group}) == 1


@given(st.data())
def test_products_and_sums_are_counted_alike_whether_fused_or_not(programs: Programs, data: st.DataObject) -> None:
    """A fused sum of n products is n products and n-1 sums, as if each were an operation of its own."""
    for op in data.draw(programs).ops:
        fused = op.kind in (OpKind.DOT_PLAIN, OpKind.DOT_SCALARS)
        assert products(op) == (len(op.args) if fused else op.kind is OpKind.MULTIPLY_PLAIN)
        extra = op.kind in (OpKind.ADD, OpKind.UNMASK)
        assert additions(op) == (len(op.args) - 1 if fused else extra)
        assert len(plaintexts(op)) == (0 if op.kind is OpKind.DOT_SCALARS else products(op))


def test_an_operation_on_its_own_operands_is_itself() -> None:
    op = EXAMPLE.ops[5]
    assert with_args(op, (4, 4)) is op
    assert with_args(op, (3, 4)) == Op(kind=OpKind.ADD, args=(3, 4))


def test_rotation_steps_are_distinct_and_ascending() -> None:
    assert EXAMPLE.rotation_steps == (1, 3)
    assert EXAMPLE.rotation_steps == msgspec.structs.replace(EXAMPLE, ops=EXAMPLE.ops * 2).rotation_steps


def test_last_reads_of_an_example() -> None:
    """0 and 5 are outputs; 6 is read by nobody."""
    assert EXAMPLE.last_reads() == ((), (), (), (2,), (3,), (4,), (1, 6))


@given(st.data())
def test_after_each_operation_exactly_the_values_still_needed_are_alive(
    programs: Programs, data: st.DataObject
) -> None:
    program = data.draw(programs)
    alive: set[int] = set()
    for i, (op, freed) in enumerate(zip(program.ops, program.last_reads(), strict=True)):
        assert set(op.args) <= alive, "read after it was freed"
        alive.add(i)
        assert len(freed) == len(set(freed)), "freed twice"
        assert set(freed) <= alive, "freed twice, or before it was made"
        alive -= set(freed)
        later = {arg for reader in program.ops[i + 1 :] for arg in reader.args}
        assert alive == {value for value in range(i + 1) if value in later or value in program.results}
    assert alive == set(program.results)


@given(st.data())
def test_renumbering_forgets_the_old_numbers_and_copies_what_keeps_its_own(
    programs: Programs, data: st.DataObject
) -> None:
    program = data.draw(programs)
    names = data.draw(st.lists(st.integers(), unique=True, min_size=len(program.ops), max_size=len(program.ops)))
    renamed = [
        (name, msgspec.structs.replace(op, args=tuple(names[arg] for arg in op.args)))
        for name, op in zip(names, program.ops, strict=True)
    ]
    assert renumber(program, renamed, [names[output] for output in program.results]) == program
    again = renumber(program, enumerate(program.ops), (*program.outputs, None))
    assert all(after is before for after, before in zip(again.ops, program.ops, strict=True))
    assert again.outputs == (*program.outputs, None)


def test_the_text_has_one_operation_a_line() -> None:
    assert readable(EXAMPLE).splitlines() == [
        "%0 = input",
        "%1 = input",
        "%2 = rotate %0, steps=3",
        '%3 = multiply_plain %2, "down.0"',
        "%4 = rescale %3",
        "%5 = add %4, %4",
        "%6 = rotate %1, steps=1",
        "return %5, zero, %0",
    ]


def test_the_text_of_the_further_kinds() -> None:
    assert readable(FURTHER).splitlines()[2:] == [
        '%2 = dot_plain %0 "a", %1 "b"',
        '%3 = dot_scalars %0, %1, %0, "v"',
        '%4 = mask %2, "z.0"',
        "%5 = ask_client %4, %3",
        '%6 = unmask %5, "z.0", "z.1"',
        "%7 = sanitize %6, bits=40, keep 2 places",
        "%8 = sanitize %6, bits=30",
        '%9 = dot_plain %0 "c0", %0 "c1", %0 "c2", %0 "c3", %0 "c4", %0 "c5", %0 "c6", … 4 more …, %0 "c11"',
        "return %7, %8",
    ]


@given(st.data())
def test_programs_are_plain_data(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    assert msgspec.json.decode(msgspec.json.encode(program), type=Program) == program


def test_what_is_digested_has_every_field_written_out() -> None:
    """Defaults are left out by identity, and on Python 3.10 not every empty tuple is the same one."""
    assert msgspec.json.encode(INPUT_ALONE) == (
        b'{"slots":8,"ops":[{"kind":"input","args":[],"steps":0,"constant":"","constants":[],"role":null,'
        b'"positions":[0],"bits":0,"low_bits":[]}],"outputs":[0],"encoding":"slots"}'
    )
