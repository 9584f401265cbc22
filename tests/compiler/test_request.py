"""A request is checked where it is made: below, nobody has to."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler.compile import compile_plan, compile_request
from helora_core.compiler.request import BackendTraits, Constraints, PlanRequest
from helora_core.errors import InvalidInput, InvalidParameters
from helora_core.host.manager import get_manager
from helora_core.packing.rank_bsgs import RankBSGS

SHAPE = ModuleShape.parse("24:20:3")


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_bits": -1.0},
        {"target_bits": math.nan},
        {"rtt_ms": -0.5},
        {"rtt_ms": math.inf},
        {"sanitize_bits": 0},
        {"sanitize_bits": 65},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Constraints(**wrong)


@pytest.mark.parametrize("wrong", [{"table": "mine"}, {"security_bits": 100}], ids=str)
def test_tables_and_levels_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters):
        Constraints(**wrong)


def test_what_is_replaced_is_checked_too() -> None:
    request = PlanRequest(shape=SHAPE)
    assert request.within(target_bits=20).constraints.target_bits == 20
    assert request.constraints.target_bits == Constraints().target_bits
    with pytest.raises(InvalidInput):
        request.within(target_bits=-1)
    with pytest.raises(FrozenInstanceError):
        request.shape = SHAPE  # type: ignore[misc]


def test_a_module_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match="24:20:3"):
        PlanRequest(shape=SHAPE, module=synthetic_module(ModuleShape.parse("24:20:4"), seed=1))


def test_each_number_of_tokens_comes_once_and_in_order() -> None:
    request = PlanRequest(shape=SHAPE, tokens=(64, 1, 64))
    assert [each.tokens for each in request.each_count()] == [(1,), (64,)]
    assert PlanRequest(shape=SHAPE).count is None


def test_both_doors_make_the_same_plan() -> None:
    by_arguments = compile_plan(SHAPE, RankBSGS(), tokens=4, precision_bits=11)
    request = PlanRequest(shape=SHAPE, tokens=(4,), constraints=Constraints(target_bits=11))
    assert compile_request(request, RankBSGS()).digest == by_arguments.digest


def test_traits_of_several_backends_suit_each_of_them() -> None:
    manager = get_manager()
    abilities = [manager.load_backend(name).capabilities for name in ("numpy", "tenseal")]
    traits = BackendTraits.of(abilities)
    assert traits.free_scales == all(each.free_plaintext_scale for each in abilities)
    assert traits.noise_model.public_encryption == any(each.noise_model.public_encryption for each in abilities)
    assert BackendTraits.of([]) == BackendTraits()


def test_traits_of_several_backends_are_the_narrowest_of_each() -> None:
    own, seal = (get_manager().load_backend(name).capabilities for name in ("rns", "tenseal"))
    assert BackendTraits.of([own]) == BackendTraits(
        exact_coefficients=True,
        noise_model=own.noise_model,
        longest_prime_bits=50,
        reserves_special=False,
        short_results=True,
    )
    assert own.noise_model.centred_digits
    both = BackendTraits.of([own, seal])
    assert (both.longest_prime_bits, both.reserves_special, both.noise_model.centred_digits) == (50, True, False)
    assert not both.short_results
    assert BackendTraits.of([seal]) == BackendTraits(exact_coefficients=True)
