"""The program as data: who reads what last, numbering, and its text."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.ir import Op, OpKind, Program, readable, renumber
from helora_core.packing.protocol import ScaleRole

Programs = st.SearchStrategy[Program]

EXAMPLE = Program(
    slots=8,
    ops=(
        Op(kind=OpKind.INPUT),
        Op(kind=OpKind.INPUT),
        Op(kind=OpKind.ROTATE, args=(0,), steps=3),
        Op(kind=OpKind.MULTIPLY_PLAIN, args=(2,), constant="down.0", role=ScaleRole.DOWN),
        Op(kind=OpKind.RESCALE, args=(3,)),
        Op(kind=OpKind.ADD, args=(4, 4)),
        Op(kind=OpKind.ROTATE, args=(1,), steps=1),
    ),
    outputs=(5, 0),
)
INPUT_ALONE = Program(slots=8, ops=(Op(kind=OpKind.INPUT),), outputs=(0,))


def test_inputs_are_in_the_order_sent() -> None:
    assert EXAMPLE.inputs == (0, 1)


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
        assert alive == {value for value in range(i + 1) if value in later or value in program.outputs}
    assert alive == set(program.outputs)


@given(st.data())
def test_renumbering_a_numbered_program_changes_nothing(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    assert renumber(program.slots, enumerate(program.ops), program.outputs) == program


@given(st.data())
def test_renumbering_forgets_the_old_numbers(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    names = data.draw(st.lists(st.integers(), unique=True, min_size=len(program.ops), max_size=len(program.ops)))
    renamed = [
        (name, msgspec.structs.replace(op, args=tuple(names[arg] for arg in op.args)))
        for name, op in zip(names, program.ops, strict=True)
    ]
    assert renumber(program.slots, renamed, [names[output] for output in program.outputs]) == program


def test_the_text_has_one_operation_a_line() -> None:
    assert readable(EXAMPLE).splitlines() == [
        "%0 = input",
        "%1 = input",
        "%2 = rotate %0, steps=3",
        '%3 = multiply_plain %2, "down.0"',
        "%4 = rescale %3",
        "%5 = add %4, %4",
        "%6 = rotate %1, steps=1",
        "return %5, %0",
    ]


@given(st.data())
def test_programs_are_plain_data(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    assert msgspec.json.decode(msgspec.json.encode(program), type=Program) == program


def test_what_is_digested_has_every_field_written_out() -> None:
    """Defaults are left out by identity, and on Python 3.10 not every empty tuple is the same one."""
    assert msgspec.json.encode(INPUT_ALONE) == (
        b'{"slots":8,"ops":[{"kind":"input","args":[],"steps":0,"constant":"","role":null}],"outputs":[0]}'
    )
