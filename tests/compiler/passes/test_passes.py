"""The laws of every pass, each alone and all in a row."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.ir import Program
from helora_core.compiler.passes import PASSES, Pass
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import CKKSParams

Programs = st.SearchStrategy[Program]


def all_in_a_row(program: Program) -> Program:
    return functools.reduce(lambda each, transform: transform(each), PASSES, program)


every_pass = pytest.mark.parametrize("transform", [*PASSES, all_in_a_row], ids=lambda transform: transform.__name__)


@every_pass
@given(st.data())
def test_the_outputs_stay_the_same(
    transform: Pass, programs: Programs, computed: Callable[[Program], list[Vector]], data: st.DataObject
) -> None:
    """To the bit: no pass may change the order of a sum."""
    program = data.draw(programs)
    assert np.array_equal(computed(transform(program)), computed(program))


@every_pass
@given(st.data())
def test_levels_and_scales_of_the_outputs_stay_the_same(
    transform: Pass, programs: Programs, params: CKKSParams, scales: Scales, data: st.DataObject
) -> None:
    program = data.draw(programs)
    after, before = (
        [annotate(each, params, scales)[output] for output in each.outputs] for each in (transform(program), program)
    )
    assert after == before


@every_pass
@given(st.data())
def test_doing_it_twice_does_no_more(transform: Pass, programs: Programs, data: st.DataObject) -> None:
    once = transform(data.draw(programs))
    assert transform(once) == once


@every_pass
@given(st.data())
def test_slots_and_the_number_of_inputs_and_outputs_stay(
    transform: Pass, programs: Programs, data: st.DataObject
) -> None:
    program = data.draw(programs)
    after = transform(program)
    assert after.slots == program.slots
    assert len(after.inputs) == len(program.inputs)
    assert len(after.outputs) == len(program.outputs)
