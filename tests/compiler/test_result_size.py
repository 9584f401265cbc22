"""Results are sent at the lowest level that holds them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.compiler.result_size import LOST_BITS, divided
from helora_core.errors import LevelExhausted
from helora_core.host.manager import get_manager


def plan_of(shape: str, packing: str, **options: Any) -> Plan:
    return compile_plan(ModuleShape.parse(shape), get_manager().load_packing(packing), tokens=1, **options)


@pytest.mark.parametrize(
    ("shape", "packing"),
    [
        ("576:768:16", "rank_bsgs"),
        ("4096:4096:16", "rank_bsgs"),
        ("64:96:4", "cheetah_two_round"),
        ("40:30:4", "outer_product"),
    ],
)
def test_the_level_is_the_lowest_that_keeps_the_precision(shape: str, packing: str) -> None:
    plan = plan_of(shape, packing)
    whole = divided(plan, 0)
    assert whole is not None
    assert plan.settings.dropped > 0
    assert plan.precision().bits >= whole.precision().bits - LOST_BITS
    further = divided(plan, plan.settings.dropped + 1) if plan.values[plan.program.results[0]].level else None
    assert further is None or further.precision().bits < whole.precision().bits - LOST_BITS
    # Floods and masks are made before, and are the same.
    assert plan.precision().flood_bits == whole.precision().flood_bits
    assert plan.precision().mask_bits == whole.precision().mask_bits
    assert plan.counts == whole.counts
    assert plan.digest != whole.digest
    (level,) = {plan.values[i].level for i in plan.program.results}
    (highest,) = {whole.values[i].level for i in whole.program.results}
    assert highest - level == plan.settings.dropped


def test_a_small_module_is_sent_in_a_quarter_of_the_bytes() -> None:
    """576:768:16: one prime of 41 bits instead of four, 84 KB by a library that packs residues."""
    plan = plan_of("576:768:16", "rank_bsgs")
    assert plan.bytes_down == 2 * 8 * plan.params.ring_degree
    assert plan.params.data_bits[0] * 2 * plan.params.ring_degree / 8 < 85_000


def test_plans_that_are_not_sanitised_stay_as_they_are() -> None:
    assert plan_of("40:30:4", "rank_bsgs", private_weights=False).settings.dropped == 0


@pytest.mark.parametrize("levels", [-1, 4, 100])
def test_levels_that_are_not_there_are_refused(levels: int) -> None:
    """As in an artifact that was changed."""
    plan = plan_of("576:768:16", "rank_bsgs")

    def changed(op: Op) -> Op:
        return msgspec.structs.replace(op, steps=levels) if op.kind is OpKind.SANITIZE else op

    program: Program = msgspec.structs.replace(plan.program, ops=tuple(map(changed, plan.program.ops)))
    with pytest.raises(LevelExhausted, match=f"drops {levels} levels"):
        annotate(program, plan.params, plan.scales)
