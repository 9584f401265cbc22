"""Results are sent at the lowest level that holds them, without the low bits that the precision does not need."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import BackendTraits
from helora_core.compiler.result_size import LOST_BITS, divided, kept_bits, shortened, smallest_results
from helora_core.errors import InvalidProgram, LevelExhausted
from helora_core.host.manager import get_manager
from helora_core.params.noise import NoiseModel

TARGET = 12.0
SHORT = BackendTraits(short_results=True)


def plan_of(shape: str, packing: str, **options: Any) -> Plan:
    return compile_plan(ModuleShape.parse(shape), get_manager().load_packing(packing), tokens=1, **options)


SANITISED = [
    ("576:768:16", "rank_bsgs"),
    ("4096:4096:16", "rank_bsgs"),
    ("64:96:4", "cheetah_two_round"),
    ("40:30:4", "outer_product"),
]


@pytest.mark.parametrize(("shape", "packing"), SANITISED)
def test_the_level_is_the_lowest_that_keeps_the_precision(shape: str, packing: str) -> None:
    plan = plan_of(shape, packing)
    whole = divided(plan, 0)
    assert whole is not None
    assert plan.settings.dropped > 0
    kept = whole.precision().bits - LOST_BITS
    assert plan.precision().bits >= kept
    further = divided(plan, plan.settings.dropped + 1) if plan.values[plan.program.results[0]].level else None
    assert further is None or further.precision().bits < kept
    # Floods and masks are made before, and are the same.
    assert plan.precision().flood_bits == whole.precision().flood_bits
    assert plan.precision().mask_bits == whole.precision().mask_bits
    assert plan.counts == whole.counts
    assert plan.digest != whole.digest
    (level,) = {plan.values[i].level for i in plan.program.results}
    (highest,) = {whole.values[i].level for i in whole.program.results}
    assert highest - level == plan.settings.dropped


@pytest.mark.parametrize(("shape", "packing"), SANITISED)
@pytest.mark.parametrize("target_bits", [9.0, TARGET])
def test_one_more_dropped_bit_would_lose_the_precision(shape: str, packing: str, target_bits: float) -> None:
    plan = plan_of(shape, packing, traits=SHORT, precision_bits=target_bits)
    if plan.values[plan.program.results[0]].level:
        assert plan.low_bits == ((0, 0),)  # residues modulo several primes have no low bits
        return
    first, second = plan.settings.low_bits
    assert first > second >= 0  # the secret multiplies the errors of c₁
    undivided = divided(plan, 0)
    assert undivided is not None
    kept = kept_bits(undivided.precision().bits, target_bits)
    assert plan.precision().bits >= kept >= target_bits
    for more in ((first + 1, second), (first, second + 1)):
        assert shortened(plan, more).precision().bits < kept
    assert {"dropped bits", "dropped bits times secret"} <= plan.precision().terms.keys() or not second
    whole = shortened(plan, (0, 0))
    assert plan.precision().flood_bits == whole.precision().flood_bits
    assert plan.counts == whole.counts
    assert plan.digest != whole.digest
    assert set(plan.low_bits) == {(first, second)}


@pytest.mark.parametrize(
    ("bits", "kept"), [(20.0, 13.0), (13.5, 13.0), (13.0, 13.0 - LOST_BITS), (12.5, 12.5 - LOST_BITS), (12.0, 12.0)]
)
def test_a_bit_above_what_was_asked_is_kept_and_nothing_of_what_was_asked_is_lost(bits: float, kept: float) -> None:
    assert kept_bits(bits, TARGET) == kept
    assert kept_bits(11.0, TARGET) == 11.0 - LOST_BITS


def test_a_plan_of_less_precision_than_asked_loses_a_sixteenth_of_a_bit_at_most() -> None:
    """As with parameters that the caller chose, whose precision is not checked."""
    plan = plan_of("576:768:16", "rank_bsgs", traits=SHORT)
    whole = divided(plan, 0)
    assert whole is not None
    bits = whole.precision().bits
    shorter = smallest_results(whole, bits + 1)
    assert bits - LOST_BITS <= shorter.precision().bits < bits
    assert smallest_results(plan_of("40:30:4", "rank_bsgs", private_weights=False), 0.0).settings.dropped == 0


def test_a_small_module_is_sent_in_a_fifth_of_the_bytes() -> None:
    """576:768:16: one prime of 42 bits instead of four, 86 KB by a library that packs residues; and 18 bits of two
    coefficients less where low bits can be dropped.
    """
    traits = BackendTraits(noise_model=NoiseModel(centred_digits=True), longest_prime_bits=50, short_results=True)
    plan = plan_of("576:768:16", "rank_bsgs", traits=traits)
    assert plan.bytes_down == 2 * 8 * plan.params.ring_degree
    assert plan.params.data_bits[0] * 2 * plan.params.ring_degree / 8 < 87_000
    assert (plan.params.data_bits[0] * 2 - sum(plan.settings.low_bits)) * plan.params.ring_degree / 8 < 70_000


def test_a_library_that_sends_all_bits_is_not_charged_for_dropping_them() -> None:
    plan = plan_of("576:768:16", "rank_bsgs")
    assert plan.low_bits == ((0, 0),)
    assert plan.precision().bits > plan_of("576:768:16", "rank_bsgs", traits=SHORT).precision().bits


def test_plans_that_are_not_sanitised_stay_as_they_are() -> None:
    plan = plan_of("40:30:4", "rank_bsgs", private_weights=False, traits=SHORT)
    assert (plan.settings.dropped, plan.settings.low_bits) == (0, ())


def _changed(plan: Plan, **fields: Any) -> Program:
    ops = tuple(msgspec.structs.replace(op, **fields) if op.kind is OpKind.SANITIZE else op for op in plan.program.ops)
    return msgspec.structs.replace(plan.program, ops=ops)


@pytest.mark.parametrize("levels", [-1, 4, 100])
def test_levels_that_are_not_there_are_refused(levels: int) -> None:
    """As in an artifact that was changed."""
    plan = plan_of("576:768:16", "rank_bsgs")
    with pytest.raises(LevelExhausted, match=f"drops {levels} levels"):
        annotate(_changed(plan, steps=levels), plan.params, plan.scales)


@pytest.mark.parametrize("low_bits", [(1,), (1, 2, 3), (-1, 0), (60, 0), (0, 60)])
def test_bits_that_are_not_there_are_refused(low_bits: tuple[int, ...]) -> None:
    plan = plan_of("576:768:16", "rank_bsgs")
    with pytest.raises(InvalidProgram, match="cannot drop the low bits"):
        annotate(_changed(plan, low_bits=low_bits), plan.params, plan.scales)


def test_low_bits_of_several_residues_are_refused() -> None:
    plan = plan_of("576:768:16", "rank_bsgs")
    with pytest.raises(InvalidProgram, match="at level 3 cannot drop"):
        annotate(_changed(plan, steps=0, low_bits=(3, 1)), plan.params, plan.scales)


def test_nothing_is_computed_with_what_is_left() -> None:
    plan = plan_of("576:768:16", "rank_bsgs", traits=SHORT)
    (result,) = plan.program.results
    ops = (*plan.program.ops, Op(kind=OpKind.ADD, args=(result, result)))
    program = msgspec.structs.replace(plan.program, ops=ops, outputs=(result + 1,))
    with pytest.raises(InvalidProgram, match="lost its low bits"):
        annotate(program, plan.params, plan.scales)
