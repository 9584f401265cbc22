"""Parameters and scales are chosen together: every product fits, and the cheapest settings come first."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan, compile_request
from helora_core.compiler.request import BackendTraits, Constraints, PlanRequest
from helora_core.compiler.settings import settings_for, settings_given, settings_options
from helora_core.errors import HeloraError, InvalidParameters, PrecisionLost, SlotOverflow
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse, Packing
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import security_verdict

SHAPE = ModuleShape.parse("96:64:8")
NAMES = ("rank_bsgs", "zero_moai", "cheetah", "outer_product", "halevi_shoup", "cheetah_two_round")


def packing(name: str) -> Packing:
    return get_manager().load_packing(name)


def asked(sanitize_bits: int | None = None, shape: ModuleShape = SHAPE, **constraints: Any) -> PlanRequest:
    return PlanRequest(shape=shape, constraints=Constraints(sanitize_bits=sanitize_bits, **constraints))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sanitize_bits", [None, 20, 40])
@pytest.mark.parametrize("free_scales", [True, False])
def test_what_is_chosen_is_secure_and_keeps_the_laws(name: str, sanitize_bits: int | None, free_scales: bool) -> None:
    strategy = packing(name)
    chosen = settings_for(replace(asked(sanitize_bits), traits=BackendTraits(free_scales=free_scales)), strategy)
    assert security_verdict(chosen.params).secure
    assert chosen.params.slots >= strategy.min_slots(SHAPE)
    plan = compile_plan(SHAPE, strategy, sanitize_bits=sanitize_bits, private_weights=False)
    annotate(plan.program, plan.params, plan.scales)
    assert max(info.scale_bits for info in plan.values) < plan.params.data_modulus_bits


@pytest.mark.parametrize("name", ["rank_bsgs", "outer_product"])
def test_a_sanitised_plan_rescales_nowhere_and_a_bare_one_at_every_product(name: str) -> None:
    strategy = packing(name)
    assert strategy.modulus_use is ModulusUse.LEVELS
    bare, sanitised = (settings_for(asked(bits), strategy) for bits in (None, 40))
    assert bare.rescales
    assert bare.params.max_level == strategy.depth
    assert not sanitised.rescales
    used = sanitised.scales.input_bits + sanitised.scales.down_bits + sanitised.scales.up_bits
    assert used < sanitised.params.data_modulus_bits


@given(bits=st.tuples(*[st.integers(30, 50)] * 2))
def test_with_given_parameters_each_rescale_brings_the_scale_back(bits: tuple[int, int]) -> None:
    params = CKKSParams(ring_degree=8192, data_bits=(60, *bits), special_bits=(60,), scale_bits=40)
    given_settings = settings_given(packing("rank_bsgs"), params)
    assert given_settings.scales == Scales(input_bits=40, down_bits=bits[1], up_bits=bits[0])
    plan = compile_plan(SHAPE, packing("rank_bsgs"), params=params, private_weights=False)
    assert {plan.values[result].scale_bits for result in plan.program.results} == {40}


def test_parameters_of_too_few_levels_are_refused() -> None:
    params = CKKSParams(ring_degree=8192, data_bits=(60, 40), special_bits=(60,), scale_bits=40)
    with pytest.raises(InvalidParameters, match="rank_bsgs rescales 2 times; the parameters have 1 levels"):
        settings_given(packing("rank_bsgs"), params)


class TestOptions:
    @pytest.mark.parametrize("name", NAMES)
    def test_before_the_plain_choice_come_only_cheaper_ones_and_none_comes_twice(self, name: str) -> None:
        options = list(settings_options(asked(40), packing(name)))
        plain = settings_for(asked(40), packing(name))
        sizes = [(option.params.ring_degree, len(option.params.data_bits)) for option in options]
        before = options.index(plain)
        assert all(size < sizes[before] for size in sizes[:before])
        assert sizes[:before] == sorted(sizes[:before])
        assert all(option not in options[:i] for i, option in enumerate(options))

    def test_a_smaller_ring_than_the_plain_choice_is_taken_if_the_plan_is_precise_enough_in_it(self) -> None:
        shape = ModuleShape.parse("1536:1536:16")
        request = PlanRequest(shape=shape, constraints=Constraints(private_weights=False, sanitize_bits=None))
        assert settings_for(request, packing("cheetah")).params.ring_degree == 4096
        plan = compile_request(request, packing("cheetah"))
        assert plan.params.ring_degree == 2048
        assert plan.precision().bits >= request.constraints.target_bits

    def test_a_ring_in_which_no_plan_is_precise_enough_is_refused_as_the_plain_choice_is(self) -> None:
        request = asked(40, ring_degree=2048)
        with pytest.raises(InvalidParameters, match="at ring degree 2048"):
            compile_request(request, packing("cheetah_two_round"))

    @pytest.mark.parametrize("name", NAMES)
    def test_rings_only_grow_and_stop_at_four_times_the_first(self, name: str) -> None:
        rings = [option.params.ring_degree for option in settings_options(asked(40), packing(name))]
        assert rings == sorted(rings)
        assert set(rings) <= {rings[0], 2 * rings[0], 4 * rings[0]}

    def test_a_ring_that_was_asked_for_is_the_only_one(self) -> None:
        options = list(settings_options(asked(40, ring_degree=16384), packing("rank_bsgs")))
        assert {option.params.ring_degree for option in options} == {16384}

    def test_where_nothing_will_do_the_refusal_is_that_of_the_plain_choice(self) -> None:
        wide = ModuleShape(d_in=16, d_out=16, rank=1 << 20)
        with pytest.raises(HeloraError) as caught:
            next(settings_options(asked(shape=wide), packing("rank_bsgs")))
        assert isinstance(caught.value, (SlotOverflow, InvalidParameters))

    @given(wanted=st.floats(4, 24), name=st.sampled_from(NAMES))
    def test_a_plan_keeps_the_precision_that_was_asked_for_or_there_is_none(self, wanted: float, name: str) -> None:
        try:
            plan = compile_plan(SHAPE, packing(name), precision_bits=wanted, sanitize_bits=40, private_weights=False)
        except (PrecisionLost, InvalidParameters):
            return
        assert plan.precision().bits >= wanted
        found = (plan.params, plan.scales)
        tried = settings_options(asked(40, target_bits=wanted), packing(name))
        assert found in [(each.params, each.scales) for each in islice(tried, 20)]
