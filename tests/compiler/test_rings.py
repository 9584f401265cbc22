"""Every ring degree of the table gets its plan, or the refusal that compiling for it gives."""

from __future__ import annotations

from typing import Any

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.compiler.rings import ring_options
from helora_core.errors import HeloraError, InsecureParameters, InvalidParameters, SlotOverflow
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.params.security import load_table

SHAPE = ModuleShape(d_in=1536, d_out=1536, rank=16)


def asked(shape: ModuleShape = SHAPE, **constraints: Any) -> PlanRequest:
    return PlanRequest(shape=shape, constraints=Constraints(sanitize_bits=None, **constraints))


@pytest.mark.parametrize(
    ("security_bits", "table"), [(128, "guidelines-2024"), (256, "guidelines-2024"), (192, "he-standard-2018")]
)
def test_each_ring_of_the_table_is_an_option_in_order(security_bits: int, table: str) -> None:
    options = ring_options(asked(security_bits=security_bits, table=table), RankBSGS())
    assert tuple(option.ring_degree for option in options) == load_table(table).rings(security_bits)
    for option in options:
        assert (option.plan is None) != (option.refusal is None)
        if option.plan is not None:
            assert option.plan.verdict.secure
            assert (option.plan.verdict.asked_bits, option.plan.verdict.table) == (security_bits, table)


def test_an_option_is_what_compiling_for_the_ring_gives() -> None:
    for option in ring_options(asked(target_bits=17.0), RankBSGS()):
        try:
            plan = compile_plan(
                SHAPE, RankBSGS(), ring_degree=option.ring_degree, precision_bits=17.0, private_weights=False
            )
        except HeloraError as refusal:
            assert str(option.refusal) == str(refusal)  # noqa: PT017
        else:
            assert option.plan is not None
            assert option.plan.digest == plan.digest


def test_each_ring_that_will_not_do_says_why() -> None:
    """Too little modulus for 17 bits of precision; and too much noise for 22, in larger rings."""
    for bits, small, large in ((17.0, InsecureParameters, type(None)), (22.0, InsecureParameters, InvalidParameters)):
        refusals = {
            option.ring_degree: type(option.refusal) for option in ring_options(asked(target_bits=bits), RankBSGS())
        }
        assert {refusals[ring] for ring in (1024, 2048, 4096)} == {small}
        assert refusals[16384] is large


def test_a_ring_of_too_few_slots_for_the_rank_says_so() -> None:
    options = ring_options(asked(ModuleShape.parse("64:64:3000"), target_bits=0), RankBSGS())
    refusals = {option.ring_degree: type(option.refusal) for option in options}
    assert refusals[4096] is SlotOverflow
    assert refusals[8192] is type(None)
