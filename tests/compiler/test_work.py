"""What the compiler does once and not again: emit a layout, follow values that are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.error_flow import ErrorFlow
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.compiler.settings import settings_options
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import ProgramBuilder, ScaleRole
from helora_core.packing.rank_bsgs import RankBSGS, RankBSGSLayout
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import NoiseModel

SHAPE = ModuleShape(d_in=300, d_out=200, rank=7)


class Counted(RankBSGS):
    """Its layouts note when they are emitted."""

    def __init__(self) -> None:
        self.emitted: list[RankBSGSLayout] = []

    def layouts(self, shape: ModuleShape, slots: int, **choice: Any) -> Iterator[RankBSGSLayout]:
        packing = self

        class Noted(RankBSGSLayout):
            def emit(self, builder: ProgramBuilder) -> None:
                packing.emitted.append(self)
                super().emit(builder)

        for layout in super().layouts(shape, slots, **choice):
            yield Noted(*(getattr(layout, name) for name in layout.__dataclass_fields__))


@pytest.mark.parametrize(
    ("shape", "tokens", "sanitize_bits", "finer"),
    [("300:200:7", 1, None, False), ("300:200:7", 300, 40, False), ("20:33:3", 4, 40, True)],
)
def test_each_layout_is_emitted_once_however_many_scales_are_tried(
    shape: str, tokens: int, sanitize_bits: int | None, finer: bool
) -> None:
    module, packing = ModuleShape.parse(shape), Counted()
    plan = compile_plan(module, packing, tokens=tokens, sanitize_bits=sanitize_bits, private_weights=False)
    layouts = list(RankBSGS().layouts(module, plan.params.slots, tokens=tokens, costs=DEFAULT_COSTS))
    assert len(packing.emitted) == len(set(packing.emitted)) == len(layouts)
    assert plan.values == annotate(plan.program, plan.params, plan.scales)
    request = PlanRequest(shape=module, constraints=Constraints(private_weights=False, sanitize_bits=sanitize_bits))
    chosen = msgspec.structs.replace(plan.settings, dropped=0)
    assert (chosen != next(settings_options(request, packing))) is finer


def _results(program: Program, params: CKKSParams, scales: Scales) -> list[tuple[Any, ...]]:
    """All that is known of each result's errors, its flood and its mask."""
    flow = ErrorFlow(
        program=program, values=annotate(program, params, scales), params=params, scales=scales, shape=SHAPE,
        merged=False, noise_model=NoiseModel(), nominal_scales=True,
    )  # fmt: skip
    return [
        (
            each.terms,
            each.variances,
            np.zeros(program.slots) if each.spikes is None else each.spikes,
            each.down_rounding,
            each.up_rounding,
            each.drift,
            flow.flood_bits.get(output, 0),
            flow.mask_bits.get(output, 0),
        )
        for each, output in zip(flow.results(), program.results, strict=True)
    ]


def _check_each(program: Program, params: CKKSParams, scales: Scales) -> None:
    """The results are those of a program in which no two operations are equal, by a field that theirs ignore."""
    marked = (
        # Sanitising reads both fields, and differs by its operand.
        op
        if op.kind is OpKind.SANITIZE
        else msgspec.structs.replace(op, **{"bits" if op.kind is OpKind.ROTATE else "steps": 1000 + i})
        for i, op in enumerate(program.ops)
    )
    each = msgspec.structs.replace(program, ops=tuple(marked))
    for one, other in zip(_results(program, params, scales), _results(each, params, scales), strict=True):
        for found, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_following_one_of_a_kind_is_following_each(
    programs: st.SearchStrategy[Program], params: CKKSParams, scales: Scales
) -> None:
    @given(programs)
    def check(program: Program) -> None:
        _check_each(program, params, scales)

    check()


def rotate(arg: int, steps: int) -> Op:
    return Op(kind=OpKind.ROTATE, args=(arg,), steps=steps)


def times(role: ScaleRole, *args: int, kind: OpKind = OpKind.DOT_SCALARS) -> Op:
    return Op(
        kind=kind, args=args, role=role, constant=f"{role.value}.{kind.value}.{args}", positions=tuple(range(len(args)))
    )


def sanitize(bits: int, keep: tuple[int, ...] = (), dropped: int = 0) -> Op:
    return Op(kind=OpKind.SANITIZE, args=(0,), bits=bits, positions=keep, steps=dropped)


NEARLY_ALIKE = {
    "steps": (rotate(0, 1), rotate(1, 1), rotate(1, 2), Op(kind=OpKind.ADD, args=(2, 3))),
    "one value twice": (Op(kind=OpKind.INPUT, positions=(1,)), *(Op(kind=OpKind.ADD, args=(0, i)) for i in (1, 0))),
    "role": tuple(times(role, 0) for role in ScaleRole),
    "kind of product": tuple(
        times(ScaleRole.DOWN, 0, kind=kind) for kind in (OpKind.MULTIPLY_PLAIN, OpKind.DOT_SCALARS)
    ),
    "operands": (rotate(0, 1), times(ScaleRole.DOWN, 0, 1), times(ScaleRole.DOWN, 1, 1), times(ScaleRole.DOWN, 0, 0)),
    "number of operands": (times(ScaleRole.DOWN, 0), times(ScaleRole.DOWN, 0, 0)),
    "level": (Op(kind=OpKind.RESCALE, args=(0,)), rotate(0, 1), rotate(1, 1)),
    "distance": (sanitize(10), sanitize(30)),
    "levels dropped": (sanitize(10), sanitize(10, dropped=1)),
    "what is kept": (sanitize(10), sanitize(10, keep=(1,)), sanitize(10, keep=(1, 5))),
}
"""Programs with values that differ in this alone; all are results."""


@pytest.mark.parametrize("ops", NEARLY_ALIKE.values(), ids=NEARLY_ALIKE)
def test_what_is_nearly_alike_is_told_apart(params: CKKSParams, ops: tuple[Op, ...]) -> None:
    scales = Scales(input_bits=60, down_bits=20, up_bits=21)
    program = Program(
        slots=params.slots, ops=(Op(kind=OpKind.INPUT, positions=(0,)), *ops), outputs=tuple(range(len(ops) + 1))
    )
    _check_each(program, params, scales)
