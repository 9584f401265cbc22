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


every_pass = pytest.mark.parametrize("transform", [*PASSES, all_in_a_row], ids=lambda transform: transform.__name__)
reorders_sums = (fuse_dots, all_in_a_row)


@every_pass
@given(st.data())
def test_the_outputs_stay_the_same(
    transform: Pass, programs: Programs, computed: Computed, data: st.DataObject
) -> None:
    """To the bit: only a fused sum may be added up in another order."""
    program = data.draw(programs)
    before, after = computed(program), computed(transform(program))
    assert len(after) == len(before)
    if transform in reorders_sums:
        np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)
    else:
        assert np.array_equal(after, before)


@every_pass
@given(st.data())
def test_levels_and_scales_of_the_outputs_stay_the_same(
    transform: Pass, programs: Programs, params: CKKSParams, scales: Scales, data: st.DataObject
) -> None:
    program = data.draw(programs)
    after, before = (
        [annotate(each, params, scales)[output] for output in each.results] for each in (transform(program), program)
    )
    assert after == before


@every_pass
@given(st.data())
def test_nothing_is_done_more_often(transform: Pass, programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    before, after = (msgspec.structs.asdict(count_operations(each)) for each in (program, transform(program)))
    assert all(after[name] <= before[name] for name in before)


@pytest.mark.parametrize("transform", PASSES, ids=lambda transform: transform.__name__)
@given(st.data())
def test_doing_it_twice_does_no_more(transform: Pass, programs: Programs, data: st.DataObject) -> None:
    once = transform(data.draw(programs))
    assert transform(once) == once


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


@every_pass
@given(st.data())
def test_slots_encoding_and_what_comes_back_stay(transform: Pass, programs: Programs, data: st.DataObject) -> None:
    program = data.draw(programs)
    after = transform(program)
    assert (after.slots, after.encoding) == (program.slots, program.encoding)
    assert len(after.outputs) == len(program.outputs)


@every_pass
@given(st.data())
def test_inputs_are_sent_in_order_and_only_those_that_nothing_depends_on_stay_at_home(
    transform: Pass, programs: Programs, data: st.DataObject
) -> None:
    program = data.draw(programs)
    after = transform(program)
    if transform in (drop_dead, all_in_a_row):
        reached = set(program.results)
        for i in reversed(range(len(program.ops))):
            reached.update(program.ops[i].args if i in reached else ())
        assert after.input_positions == tuple(program.ops[i].positions[0] for i in program.inputs if i in reached)
    else:
        assert after.input_positions == program.input_positions


@every_pass
@given(st.data())
def test_masks_questions_and_sanitised_results_are_never_merged(
    transform: Pass, programs: Programs, data: st.DataObject
) -> None:
    """Each of them is fresh randomness, or another message."""
    program = data.draw(programs)
    if transform in (drop_dead, all_in_a_row):
        program = drop_dead(program)
    fresh = (OpKind.SANITIZE, OpKind.MASK, OpKind.ASK_CLIENT)
    before, after = ([op.kind for op in each.ops] for each in (program, transform(program)))
    assert [after.count(kind) for kind in fresh] == [before.count(kind) for kind in fresh]


@every_pass
@given(st.data())
def test_results_known_to_be_zero_stay_where_they_are(
    transform: Pass, programs: Programs, computed: Computed, data: st.DataObject
) -> None:
    program = data.draw(programs)
    place = data.draw(st.integers(0, len(program.outputs)))
    outputs = (*program.outputs[:place], None, *program.outputs[place:])
    after = transform(msgspec.structs.replace(program, outputs=outputs))
    assert [output is None for output in after.outputs] == [output is None for output in outputs]
    np.testing.assert_allclose(computed(after), computed(program), rtol=1e-9, atol=1e-9)
