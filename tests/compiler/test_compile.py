"""From shape and packing to a checked plan, or a refusal that says what would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan, lower
from helora_core.compiler.cost import relative_cost
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.passes import PASSES
from helora_core.errors import InsecureParameters, InvalidParameters, InvalidProgram, SlotOverflow
from helora_core.host.manager import get_manager
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import Layout, Packing, ProgramBuilder, ScaleRole
from helora_core.packing.rank_bsgs import RankBSGS, RankBSGSLayout
from helora_core.packing.zero_moai import ZeroMOAI
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST, SAFE
from tests.registered import online_packings

Refused = Callable[..., AbstractContextManager[None]]

SHAPE = ModuleShape(d_in=1536, d_out=256, rank=16)
dimensions = st.integers(1, 4096)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 64))
SMALL_SHAPES = st.builds(ModuleShape, d_in=st.integers(1, 300), d_out=st.integers(1, 300), rank=st.integers(1, 20))
WIDE_SHAPES = st.builds(ModuleShape, d_in=st.integers(1, 20000), d_out=st.integers(1, 20000), rank=st.integers(1, 64))


class TestParameters:
    @given(WIDE_SHAPES)
    def test_a_module_of_any_width_fits_ring_8192(self, shape: ModuleShape) -> None:
        plan = compile_plan(shape, RankBSGS(), private_weights=False)
        assert plan.params.ring_degree <= 8192
        assert plan.verdict.secure

    @given(WIDE_SHAPES)
    def test_a_plan_keeps_the_precision_asked_for(self, shape: ModuleShape) -> None:
        for sanitize_bits in (0, 40):
            plan = compile_plan(shape, RankBSGS(), sanitize_bits=sanitize_bits, private_weights=False)
            assert plan.precision().bits >= 12

    def test_a_packing_of_less_depth_takes_a_smaller_ring(self) -> None:
        assert compile_plan(SHAPE, ZeroMOAI(), private_weights=False).params.ring_degree == 4096

    def test_a_wider_module_takes_more_ciphertexts_and_one_of_more_rank_a_larger_ring(self) -> None:
        wide, full = (
            compile_plan(ModuleShape.parse(text), RankBSGS(), private_weights=False)
            for text in ("4097:64:8", "4096:64:8")
        )
        assert wide.params == full.params
        assert (wide.counts.encrypts, full.counts.encrypts) == (2, 1)
        shape = ModuleShape.parse("64:64:4097")
        assert compile_plan(shape, RankBSGS(), precision_bits=0, private_weights=False).params.ring_degree == 16384

    def test_the_ring_can_be_forced(self) -> None:
        plan = compile_plan(SHAPE, RankBSGS(), ring_degree=32768, private_weights=False)
        assert (plan.params.ring_degree, plan.tokens_per_run) == (32768, 8)

    def test_security_and_table_are_those_asked_for(self) -> None:
        plan = compile_plan(SHAPE, RankBSGS(), security_bits=256, table="he-standard-2018", private_weights=False)
        assert plan.params.ring_degree == SAFE.ring_degree
        assert plan.verdict.secure
        assert (plan.verdict.asked_bits, plan.verdict.table) == (256, "he-standard-2018")

    def test_precision_is_what_is_asked_for(self, refused: Refused) -> None:
        plan = compile_plan(SHAPE, RankBSGS(), precision_bits=17.0, private_weights=False)
        assert plan.params.ring_degree == FAST.ring_degree
        with refused(InvalidParameters, "bits of precision"):
            compile_plan(SHAPE, RankBSGS(), precision_bits=24.0, private_weights=False)

    def test_given_parameters_are_taken_as_they_are_and_judged(self) -> None:
        params = CKKSParams(ring_degree=4096, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
        plan = compile_plan(SHAPE, RankBSGS(), params=params, security_bits=192, private_weights=False)
        assert plan.params is params
        assert (plan.verdict.secure, plan.verdict.security_bits, plan.verdict.limit_bits) == (False, 0, 73)

    def test_spare_levels_are_left_over(self) -> None:
        """zero_moai rescales once: by the last prime, whatever stands before it."""
        params = CKKSParams(ring_degree=8192, data_bits=(60, 30, 45), special_bits=(60,), scale_bits=40)
        plan = compile_plan(SHAPE, ZeroMOAI(), params=params, private_weights=False)
        assert plan.scales == Scales(input_bits=40, down_bits=45, up_bits=30)
        assert {(plan.values[output].level, plan.values[output].scale_bits) for output in plan.program.results} == {
            (1, 40)
        }

    def test_a_single_prime_gives_both_plaintexts_its_scale(self) -> None:
        class NoProducts(RankBSGS):
            depth = 0

            def layouts(self, shape: ModuleShape, slots: int, **choice: Any) -> Iterator[RankBSGSLayout]:
                yield Echo(shape, slots, slots, 1, 1, 1, ())

        params = CKKSParams(ring_degree=4096, data_bits=(60,), special_bits=(), scale_bits=30)
        plan = compile_plan(SHAPE, NoProducts(), params=params, private_weights=False)
        assert plan.scales == Scales(input_bits=30, down_bits=60, up_bits=60)


class TestRefusals:
    @pytest.mark.parametrize(("packing", "primes"), [(RankBSGS(), 3), (ZeroMOAI(), 2)], ids=["rank_bsgs", "zero_moai"])
    def test_too_few_levels_are_refused(self, refused: Refused, packing: RankBSGS | ZeroMOAI, primes: int) -> None:
        bits = (60, 40, 40)[: primes - 1]
        params = CKKSParams(ring_degree=8192, data_bits=bits, special_bits=(60,), scale_bits=40)
        with refused(
            InvalidParameters,
            f"{packing.name} rescales {packing.depth} times",
            f"have {primes - 2} levels",
            hint=f"at least {primes} data primes",
        ):
            compile_plan(SHAPE, packing, params=params, private_weights=False)

    def test_a_rank_too_large_for_a_forced_ring_is_refused_with_one_that_works(self, refused: Refused) -> None:
        shape = ModuleShape.parse("8:8:5000")
        with refused(SlotOverflow, "needs", hint="at least 16384"):
            compile_plan(shape, RankBSGS(), ring_degree=8192, precision_bits=0, private_weights=False)
        assert (
            compile_plan(
                shape, RankBSGS(), ring_degree=16384, precision_bits=0, private_weights=False
            ).params.ring_degree
            == 16384
        )
        assert (
            compile_plan(
                shape, ZeroMOAI(), ring_degree=4096, precision_bits=0, private_weights=False
            ).params.ring_degree
            == 4096
        )

    def test_a_rank_too_large_for_given_parameters_is_refused(self, refused: Refused) -> None:
        with refused(SlotOverflow, "1:1:8000", "8192 slots", hint="at least 16384"):
            compile_plan(ModuleShape(d_in=1, d_out=1, rank=8000), RankBSGS(), params=FAST, private_weights=False)

    def test_an_insecure_forced_ring_is_refused(self, refused: Refused) -> None:
        with refused(InsecureParameters, "4096", hint="8192"):
            compile_plan(SHAPE, RankBSGS(), ring_degree=4096, private_weights=False)

    def test_a_rank_too_large_for_any_ring_is_refused(self, refused: Refused) -> None:
        with refused(InvalidParameters, "65536 slots", hint="Split the module"):
            compile_plan(ModuleShape(d_in=1, d_out=1, rank=40000), RankBSGS(), private_weights=False)

    def test_a_module_too_narrow_for_the_precision_is_refused(self, refused: Refused) -> None:
        with refused(InvalidParameters, "bits of precision", hint="ask for less precision"):
            compile_plan(ModuleShape(d_in=4096, d_out=1, rank=1), RankBSGS(), precision_bits=20, private_weights=False)

    def test_a_packing_that_multiplies_deeper_than_it_says_is_refused(self, refused: Refused) -> None:
        class Understated(RankBSGS):
            depth = 1

        with refused(InvalidProgram, "a scale of 2^", "bits of modulus left", "level 0", hint="fault of the packing"):
            compile_plan(SHAPE, Understated(), private_weights=False)

    def test_a_packing_that_sends_nothing_back_is_refused(self, refused: Refused) -> None:
        class Silent(RankBSGS):
            def layouts(self, shape: ModuleShape, slots: int, **choice: Any) -> Iterator[RankBSGSLayout]:
                yield SilentLayout(shape, slots, slots, 1, 1, 1, ())

        with refused(InvalidProgram, "without outputs", hint="fault of the packing"):
            compile_plan(SHAPE, Silent(), private_weights=False)


@pytest.fixture(scope="module", params=sorted(online_packings()))
def packing(request: pytest.FixtureRequest) -> Packing:
    """Each packing of core."""
    return get_manager().load_packing(request.param)


CHOICES = st.sampled_from([{}, {"tokens": 1}, {"tokens": 64}, {"tokens": 500, "sanitize_bits": 20}])
"""Fewest tokens a run, and others; sanitised too."""


class TestTheProgram:
    @given(shape=SMALL_SHAPES, choice=CHOICES)
    def test_it_is_improved_and_annotated_and_every_result_sanitised(
        self, packing: Packing, shape: ModuleShape, choice: dict[str, Any]
    ) -> None:
        plan = compile_plan(shape, packing, precision_bits=0, **choice, private_weights=False)
        for transform in PASSES:
            assert transform(plan.program) == plan.program
        assert plan.values == annotate(plan.program, plan.params, plan.scales)
        if not plan.settings.rescales:
            assert plan.counts.rescales == 0
        sanitised = {plan.program.ops[output].kind is OpKind.SANITIZE for output in plan.program.results}
        assert sanitised == {"sanitize_bits" in choice}

    @given(SHAPES)
    def test_every_result_comes_back_at_the_scale_of_the_input(self, shape: ModuleShape) -> None:
        for packing in (RankBSGS(), ZeroMOAI()):
            plan = compile_plan(shape, packing, precision_bits=0, private_weights=False)
            assert {plan.values[output].scale_bits for output in plan.program.results} == {plan.scales.input_bits}

    @given(SHAPES, st.sampled_from([None, 1, 16, 256]))
    def test_few_ciphertexts_are_alive_at_once(
        self, peak_live: Callable[[Program], int], shape: ModuleShape, tokens: int | None
    ) -> None:
        """The baby steps of each block of x, or the baby steps of z and the blocks of Δ, and a few more."""
        plan = compile_plan(shape, RankBSGS(), precision_bits=0, tokens=tokens, private_weights=False)
        figures = plan.layout.figures
        first = figures["blocks_in"] * figures["baby_steps_down"]
        second = figures["baby_steps_up"] + figures["blocks_out"]
        assert peak_live(plan.program) <= max(first, second) + 4

    def test_its_steps_are_told_with_their_names(self) -> None:
        plan = compile_plan(SHAPE, RankBSGS(), private_weights=False)
        steps = list(lower(plan.layout, RankBSGS(), plan.settings))
        assert [step.name for step in steps] == ["emit", *(transform.__name__ for transform in PASSES)]
        assert steps[-1].program == plan.program

    @given(SHAPES, st.sampled_from([1, 3, 40, 1000]))
    def test_the_layout_is_the_cheapest_for_the_tokens(self, shape: ModuleShape, tokens: int) -> None:
        plan = compile_plan(shape, RankBSGS(), params=FAST, tokens=tokens, private_weights=False)
        slots = FAST.slots

        def cost(layout: Layout) -> float:
            emitted = next(lower(layout, RankBSGS(), plan.settings)).program
            return -(-tokens // layout.tokens_per_run) * relative_cost(emitted, DEFAULT_COSTS)

        costs = [cost(each) for each in RankBSGS().layouts(shape, slots, tokens=tokens, costs=DEFAULT_COSTS)]
        assert cost(plan.layout) == min(costs)

    def test_a_rotation_computed_twice_is_emitted_once(self) -> None:
        class Forgetful(RankBSGS):
            def layouts(self, shape: ModuleShape, slots: int, **choice: Any) -> Iterator[RankBSGSLayout]:
                yield ForgetfulLayout(shape, slots, slots, 1, 1, 1, ())

        program = compile_plan(SHAPE, Forgetful(), private_weights=False).program
        assert [op.kind for op in program.ops].count(OpKind.ROTATE) == 1


class Echo(RankBSGSLayout):
    """Sends its input back."""

    def emit(self, builder: ProgramBuilder) -> None:
        builder.output(builder.input())


class SilentLayout(RankBSGSLayout):
    def emit(self, builder: ProgramBuilder) -> None:
        builder.rescale(builder.multiply_plain(builder.input(), "down.0.0", ScaleRole.DOWN))


class ForgetfulLayout(RankBSGSLayout):
    def emit(self, builder: ProgramBuilder) -> None:
        x = builder.input()
        builder.output(builder.sum([builder.rotate(x, 1) for _ in range(3)]))
