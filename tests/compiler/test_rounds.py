"""A program cut into rounds: nothing is lost, nothing done twice, and each round has what it reads."""

from __future__ import annotations

from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.rounds import rounds_of
from helora_core.host.manager import get_manager
from tests.registered import ACCEPTED, packings_ahead

PACKINGS = sorted(get_manager().packings())


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Sums of what is there, masks of it, and questions to the client, in any order."""
    ops = [Op(kind=OpKind.INPUT, positions=(0,))]
    for i in range(1, draw(st.integers(2, 12))):
        value = st.integers(0, i - 1)
        kind = draw(st.sampled_from([OpKind.INPUT, OpKind.ADD, OpKind.MASK, OpKind.ASK_CLIENT, OpKind.UNMASK]))
        masks = tuple(op.constant for op in ops if op.kind is OpKind.MASK)
        if kind is OpKind.INPUT:
            ops.append(Op(kind=kind, positions=(i,)))
        elif kind is OpKind.MASK:
            ops.append(Op(kind=kind, args=(draw(value),), constant=f"mask.{i}"))
        elif kind is OpKind.UNMASK:
            ops.append(Op(kind=kind, args=(draw(value),), constants=masks[:1]))
        else:
            ops.append(Op(kind=kind, args=(draw(value), draw(value))))
    outputs = draw(st.lists(st.integers(0, len(ops) - 1), min_size=1, max_size=3))
    return Program(slots=8, ops=tuple(ops), outputs=tuple(outputs), encoding=Encoding.COEFFICIENTS)


@given(program=programs())
def test_each_round_has_what_it_reads_and_nothing_else(program: Program) -> None:
    live: set[int] = set()
    masks: set[str] = set()
    done = []
    for turn in rounds_of(program):
        live |= set(turn.inputs)
        for value, op, _, freed in turn.steps:
            assert set(op.args) <= live, "an operation reads what is not there"
            assert op.kind is not OpKind.UNMASK or set(op.constants) <= masks
            masks |= {op.constant} if op.kind is OpKind.MASK else set()
            done.append(value)
            live = (live | {value}) - set(freed)
        assert set(turn.outputs) <= live
        live = set(turn.carried)
        masks = set(turn.masks)
    assert not live
    uploads = (OpKind.INPUT, OpKind.ASK_CLIENT)
    assert done == [i for i, op in enumerate(program.ops) if op.kind not in uploads]


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_rounds_of_a_plan_count_what_the_plan_counts(packing: str) -> None:
    strategy = get_manager().load_packing(packing)
    plan = compile_plan(ModuleShape.parse("64:48:4"), strategy, private_weights=False, assume=ACCEPTED)
    assert len(plan.rounds) == (2 if packing in ("cheetah_two_round", *packings_ahead()) else 1)
    assert plan.round_trips == (2 if packing == "cheetah_two_round" else 1)
    counted = [msgspec.structs.asdict(turn.counts) for turn in plan.rounds]
    total = reduce(lambda left, right: {name: left[name] + right[name] for name in left}, counted)
    assert OperationCounts(**total) == plan.counts
