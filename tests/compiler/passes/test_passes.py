"""The laws of every pass, each alone and all in a row."""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.passes import PASSES, Pass
from helora_core.compiler.passes.drop_dead import drop_dead
from helora_core.compiler.passes.fuse_dots import fuse_dots
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import CKKSParams

Programs = st.SearchStrategy[Program]


Computed = Callable[..., list[Vector]]


def all_in_a_row(program: Program) -> Program:
    return functools.reduce(lambda each, transform: transform(each), PASSES, program)


EVERY: tuple[Pass, ...] = (*PASSES, all_in_a_row)
"""What each drawn program is put through."""

reorders_sums = (fuse_dots, all_in_a_row)


@given(st.data())
def test_the_outputs_stay_the_same(programs: Programs, computed: Computed, data: st.DataObject) -> None:
    """To the bit: only a fused sum may be added up in another order."""
    program = data.draw(programs)
    before = computed(program)
    for transform in EVERY:
        after = computed(transform(program))
        assert len(after) == len(before), transform
        if transform in reorders_sums:
            np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9, err_msg=str(transform))
        else:
            assert np.array_equal(after, before), transform


@given(st.data())
def test_levels_and_scales_of_the_outputs_stay_the_same(
    programs: Programs, params: CKKSParams, scales: Scales, data: st.DataObject
) -> None:
    program = data.draw(programs)
    before, *after = (
        [annotate(each, params, scales)[output] for output in each.results]
        for each in (program, *(transform(program) for transform in EVERY))
    )
    assert after == [before] * len(EVERY)


@given(st.data())
def test_nothing_is_done_more_often(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before = msgspec.structs.asdict(count_operations(program))
    for transform in EVERY:
        after = msgspec.structs.asdict(count_operations(transform(program)))
        assert all(after[name] <= before[name] for name in before), transform


@given(st.data())
def test_doing_it_twice_does_no_more(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    for transform in PASSES:
        once = transform(program)
        assert transform(once) == once, transform


@given(st.data())
def test_the_pipeline_comes_to_an_end(programs: Programs, data: st.DataObject) -> None:
    """One pass may make work for one before it, each time with less to do, so that soon nothing changes."""
    program = data.draw(programs)
    for _ in range(len(program.ops) + 1):
        again = all_in_a_row(program)
        if again == program:
            return
        program = again
    pytest.fail("it goes on")


@given(st.data())
def test_slots_encoding_and_what_comes_back_stay(programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    for transform in EVERY:
        after = transform(program)
        assert (after.slots, after.encoding) == (program.slots, program.encoding), transform
        assert len(after.outputs) == len(program.outputs), transform


@given(st.data())
def test_inputs_are_sent_in_order_and_only_those_that_nothing_depends_on_stay_at_home(
    programs: Programs, data: st.DataObject
) -> None:
    program = data.draw(programs)
    reached = set(program.results)
    for i in reversed(range(len(program.ops))):
        reached.update(program.ops[i].args if i in reached else ())
    needed = tuple(program.ops[i].positions[0] for i in program.inputs if i in reached)
    for transform in EVERY:
        expected = needed if transform in (drop_dead, all_in_a_row) else program.input_positions
        assert transform(program).input_positions == expected, transform


@given(st.data())
def test_masks_questions_and_sanitised_results_are_never_merged(programs: Programs, data: st.DataObject) -> None:
    """Each of them is fresh randomness, or another message."""
    drawn = data.draw(programs)
    for transform in EVERY:
        program = drop_dead(drawn) if transform in (drop_dead, all_in_a_row) else drawn
        before, after = ([op.kind for op in each.ops] for each in (program, transform(program)))
        for kind in (OpKind.SANITIZE, OpKind.MASK, OpKind.ASK_CLIENT):
            assert after.count(kind) == before.count(kind), transform


@given(st.data())
def test_results_known_to_be_zero_stay_where_they_are(
    programs: Programs, computed: Computed, data: st.DataObject
) -> None:
    program = data.draw(programs)
    place = data.draw(st.integers(0, len(program.outputs)))
    outputs = (*program.outputs[:place], None, *program.outputs[place:])
    before = computed(program)
    for transform in EVERY:
        after = transform(msgspec.structs.replace(program, outputs=outputs))
        assert [output is None for output in after.outputs] == [output is None for output in outputs], transform
        np.testing.assert_allclose(computed(after), before, rtol=1e-9, atol=1e-9, err_msg=str(transform))
