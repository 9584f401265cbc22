"""What the compiler does once and not again: emit a layout, follow values that are alike."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler import compile as compiler
from helora_core.compiler import error_flow
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.error_flow import ErrorFlow
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.noisy import Noisy
from helora_core.compiler.plan import Plan
from helora_core.compiler.precision import PrecisionReport
from helora_core.host.manager import get_manager
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import Layout, ScaleRole
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import NoiseModel

SHAPE = ModuleShape(d_in=300, d_out=200, rank=7)
PACKINGS = sorted(get_manager().packings())


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> Counter[Layout]:
    """How often each layout was emitted."""
    counts: Counter[Layout] = Counter()
    emit = compiler._emit

    def counted(layout: Layout, *others: Any) -> Program:
        counts[layout] += 1
        return emit(layout, *others)

    monkeypatch.setattr(compiler, "_emit", counted)
    return counts


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("tokens", [1, 300])
@pytest.mark.parametrize("sanitize_bits", [None, 40])
def test_each_layout_is_emitted_once(
    emitted: Counter[Layout], packing: str, tokens: int, sanitize_bits: int | None
) -> None:
    strategy = get_manager().load_packing(packing)
    plan = compile_plan(
        SHAPE,
        strategy,
        tokens=tokens,
        sanitize_bits=sanitize_bits,
        ring_degree=8192,
        precision_bits=8,
        private_weights=False,
    )
    layouts = strategy.layouts(SHAPE, plan.params.slots, tokens=tokens, costs=DEFAULT_COSTS)
    assert emitted == Counter(layouts)


def test_finer_scales_are_tried_on_the_same_program(emitted: Counter[Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scales it takes until the precision is enough."""
    tried: list[Scales] = []

    def judged(plan: Plan, **_: Any) -> PrecisionReport:
        tried.append(plan.scales)
        return PrecisionReport(
            bits=7.5 if len(tried) < 3 else 20, error_bound=0, terms={"flooding": 1.0}, flood_bits={}, mask_bits={}
        )

    monkeypatch.setattr(Plan, "precision", judged)
    strategy = get_manager().load_packing("rank_bsgs")
    plan = compile_plan(
        SHAPE, strategy, tokens=64, sanitize_bits=20, ring_degree=8192, precision_bits=8, private_weights=False
    )
    assert len(set(tried)) == 3
    assert plan.scales == tried[-1]
    assert plan.values == annotate(plan.program, plan.params, plan.scales)
    assert set(emitted.values()) == {1}


@pytest.mark.parametrize(
    ("packing", "products"), [("cpmm", 2), ("cheetah", 1), ("cheetah_two_round", 2), ("halevi_shoup", 256)]
)
def test_the_bound_follows_one_value_of_a_kind(monkeypatch: pytest.MonkeyPatch, packing: str, products: int) -> None:
    """Not one of each of the 207 sums of products of ``cpmm``, nor both blocks of ``halevi_shoup``."""
    followed: list[int] = []
    product = ErrorFlow._product

    def counted(flow: ErrorFlow, *operands: Any) -> Noisy:
        followed.append(1)
        return product(flow, *operands)

    plan = compile_plan(SHAPE, get_manager().load_packing(packing), ring_degree=8192, tokens=32, private_weights=False)
    monkeypatch.setattr(ErrorFlow, "_product", counted)
    plan.precision()
    assert len(followed) <= products


def _each_alone(program: Program, values: Any) -> Any:
    """Every value a class of its own."""
    return list(range(len(program.ops))), [(i, tuple(Counter(op.args).items())) for i, op in enumerate(program.ops)]


def _followed(program: Program, params: CKKSParams, scales: Scales) -> tuple[list[Any], dict[int, int]]:
    flow = ErrorFlow(
        program=program,
        values=annotate(program, params, scales),
        params=params,
        scales=scales,
        shape=SHAPE,
        merged=False,
        noise_model=NoiseModel(),
        nominal_scales=True,
    )
    results = [
        (
            each.terms,
            each.variances,
            np.zeros(program.slots) if each.spikes is None else each.spikes,
            each.down_rounding,
            each.up_rounding,
            each.drift,
        )
        for each in flow.results()
    ]
    return results, flow.flood_bits | {~i: bits for i, bits in flow.mask_bits.items()}


def _check_followed(monkeypatch: pytest.MonkeyPatch, program: Program, params: CKKSParams, scales: Scales) -> None:
    together, floods = _followed(program, params, scales)
    with monkeypatch.context() as patched:
        patched.setattr(error_flow, "_alike", _each_alone)
        alone, each_flood = _followed(program, params, scales)
    assert floods == each_flood
    for one, other in zip(together, alone, strict=True):
        for found, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_following_one_of_a_kind_is_following_each(
    monkeypatch: pytest.MonkeyPatch, programs: st.SearchStrategy[Program], params: CKKSParams, scales: Scales
) -> None:
    @given(programs)
    def check(program: Program) -> None:
        _check_followed(monkeypatch, program, params, scales)

    check()


def rotate(arg: int, steps: int) -> Op:
    return Op(kind=OpKind.ROTATE, args=(arg,), steps=steps)


def times(role: ScaleRole, *args: int, kind: OpKind = OpKind.DOT_SCALARS) -> Op:
    return Op(
        kind=kind, args=args, role=role, constant=f"{role.value}.{kind.value}.{args}", positions=tuple(range(len(args)))
    )


def sanitize(bits: int, keep: tuple[int, ...] = ()) -> Op:
    return Op(kind=OpKind.SANITIZE, args=(0,), bits=bits, positions=keep)


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
    "what is kept": (sanitize(10), sanitize(10, keep=(1,)), sanitize(10, keep=(1, 5))),
}
"""Programs with values that differ in this alone; all are results."""


@pytest.mark.parametrize("ops", NEARLY_ALIKE.values(), ids=NEARLY_ALIKE)
def test_what_is_nearly_alike_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, params: CKKSParams, ops: tuple[Op, ...]
) -> None:
    scales = Scales(input_bits=60, down_bits=20, up_bits=21)
    program = Program(
        slots=params.slots, ops=(Op(kind=OpKind.INPUT, positions=(0,)), *ops), outputs=tuple(range(len(ops) + 1))
    )
    _check_followed(monkeypatch, program, params, scales)
