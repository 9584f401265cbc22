"""From shape and packing to a checked plan, or a refusal that says what would do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.passes import PASSES
from helora_core.errors import InsecureParameters, InvalidParameters, InvalidProgram, SlotOverflow
from helora_core.packing.protocol import ProgramBuilder, ScaleRole
from helora_core.packing.rank_bsgs import RankBSGS, RankBSGSLayout
from helora_core.packing.zero_moai import ZeroMOAI
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST, SAFE

Refused = Callable[..., AbstractContextManager[None]]

SHAPE = ModuleShape(d_in=1536, d_out=256, rank=16)
dimensions = st.integers(1, 4096)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 64))


class TestParameters:
    @given(SHAPES)
    def test_any_module_of_up_to_4096_features_takes_ring_8192(self, shape: ModuleShape) -> None:
        plan = compile_plan(shape, RankBSGS())
        assert plan.params == FAST
        assert plan.verdict.secure

    def test_a_packing_of_less_depth_takes_a_smaller_ring(self) -> None:
        assert compile_plan(SHAPE, ZeroMOAI()).params.ring_degree == 4096

    def test_a_wider_module_takes_a_larger_ring(self) -> None:
        assert compile_plan(ModuleShape(d_in=4097, d_out=1, rank=1), RankBSGS()).params.ring_degree == 16384

    def test_the_ring_can_be_forced(self) -> None:
        plan = compile_plan(SHAPE, RankBSGS(), ring_degree=32768)
        assert (plan.params.ring_degree, plan.tokens_per_run) == (32768, 8)

    def test_security_and_table_are_those_asked_for(self) -> None:
        plan = compile_plan(SHAPE, RankBSGS(), security_bits=256, table="he-standard-2018")
        assert plan.params == SAFE
        assert plan.verdict.secure
        assert (plan.verdict.asked_bits, plan.verdict.table) == (256, "he-standard-2018")

    def test_precision_is_what_is_asked_for(self, refused: Refused) -> None:
        assert compile_plan(SHAPE, RankBSGS(), precision_bits=18.0).params == FAST
        with refused(InvalidParameters, "24 bits of precision"):
            compile_plan(SHAPE, RankBSGS(), precision_bits=24.0)

    def test_given_parameters_are_taken_as_they_are_and_judged(self) -> None:
        params = CKKSParams(ring_degree=4096, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
        plan = compile_plan(SHAPE, RankBSGS(), params=params, security_bits=192)
        assert plan.params is params
        assert (plan.verdict.secure, plan.verdict.security_bits, plan.verdict.limit_bits) == (False, 0, 73)

    def test_spare_levels_are_left_over(self) -> None:
        """zero_moai rescales once: by the last prime, whatever stands before it."""
        params = CKKSParams(ring_degree=8192, data_bits=(60, 30, 45), special_bits=(60,), scale_bits=40)
        plan = compile_plan(SHAPE, ZeroMOAI(), params=params)
        assert plan.scales == Scales(input_bits=40, down_bits=45, up_bits=30)
        assert {(plan.values[output].level, plan.values[output].scale_bits) for output in plan.program.outputs} == {
            (1, 40)
        }

    def test_a_single_prime_gives_both_plaintexts_its_scale(self) -> None:
        class NoProducts(RankBSGS):
            depth = 0

            def layout(self, shape: ModuleShape, slots: int) -> RankBSGSLayout:
                return Echo(shape, slots, period=slots, padded_rank=1, baby_steps=1)

        params = CKKSParams(ring_degree=4096, data_bits=(60,), special_bits=(), scale_bits=30)
        plan = compile_plan(SHAPE, NoProducts(), params=params)
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
            compile_plan(SHAPE, packing, params=params)

    def test_a_module_too_wide_for_a_forced_ring_is_refused_with_one_that_works(self, refused: Refused) -> None:
        for packing in (RankBSGS(), ZeroMOAI()):
            with refused(SlotOverflow, "needs", hint="at least 4096"):
                compile_plan(SHAPE, packing, ring_degree=2048)
        assert compile_plan(SHAPE, ZeroMOAI(), ring_degree=4096).params.ring_degree == 4096

    def test_a_module_too_wide_for_given_parameters_is_refused(self, refused: Refused) -> None:
        with refused(SlotOverflow, "8000:1:1", "8192 slots", hint="at least 16384"):
            compile_plan(ModuleShape(d_in=8000, d_out=1, rank=1), RankBSGS(), params=FAST)

    def test_an_insecure_forced_ring_is_refused(self, refused: Refused) -> None:
        with refused(InsecureParameters, "4096", hint="8192"):
            compile_plan(SHAPE, RankBSGS(), ring_degree=4096)

    def test_a_module_too_wide_for_any_ring_is_refused(self, refused: Refused) -> None:
        with refused(InvalidParameters, "65536 slots", hint="Split the module"):
            compile_plan(ModuleShape(d_in=40000, d_out=1, rank=1), RankBSGS())

    def test_a_packing_that_multiplies_deeper_than_it_says_is_refused(self, refused: Refused) -> None:
        class Understated(RankBSGS):
            depth = 1

        with refused(InvalidProgram, "2^100", "60 bits", "level 0", hint="fault of the packing"):
            compile_plan(SHAPE, Understated())

    def test_a_packing_that_sends_nothing_back_is_refused(self, refused: Refused) -> None:
        class Silent(RankBSGS):
            def layout(self, shape: ModuleShape, slots: int) -> RankBSGSLayout:
                return SilentLayout(shape, slots, period=slots, padded_rank=1, baby_steps=1)

        with refused(InvalidProgram, "without outputs", hint="fault of the packing"):
            compile_plan(SHAPE, Silent())


class TestTheProgram:
    @given(SHAPES)
    def test_it_is_improved_already(self, shape: ModuleShape) -> None:
        program = compile_plan(shape, RankBSGS()).program
        for transform in PASSES:
            assert transform(program) == program

    @given(SHAPES)
    def test_levels_and_scales_are_those_of_its_values(self, shape: ModuleShape) -> None:
        for packing in (RankBSGS(), ZeroMOAI()):
            plan = compile_plan(shape, packing)
            assert plan.values == annotate(plan.program, plan.params, plan.scales)

    @given(SHAPES)
    def test_every_result_comes_back_at_the_scale_of_the_input(self, shape: ModuleShape) -> None:
        for packing in (RankBSGS(), ZeroMOAI()):
            plan = compile_plan(shape, packing)
            assert {plan.values[output].scale_bits for output in plan.program.outputs} == {plan.scales.input_bits}

    @given(SHAPES)
    def test_few_ciphertexts_are_alive_at_once(self, peak_live: Callable[[Program], int], shape: ModuleShape) -> None:
        plan = compile_plan(shape, RankBSGS())
        assert peak_live(plan.program) <= plan.layout.figures["baby_steps"] + 4

    def test_a_rotation_computed_twice_is_emitted_once(self) -> None:
        class Forgetful(RankBSGS):
            def layout(self, shape: ModuleShape, slots: int) -> RankBSGSLayout:
                return ForgetfulLayout(shape, slots, period=slots, padded_rank=1, baby_steps=1)

        program = compile_plan(SHAPE, Forgetful()).program
        assert [op.kind for op in program.ops].count(OpKind.ROTATE) == 1


class Echo(RankBSGSLayout):
    """Sends its input back."""

    def emit(self, builder: ProgramBuilder) -> None:
        builder.output(builder.input())


class SilentLayout(RankBSGSLayout):
    def emit(self, builder: ProgramBuilder) -> None:
        builder.rescale(builder.multiply_plain(builder.input(), "down.0", ScaleRole.DOWN))


class ForgetfulLayout(RankBSGSLayout):
    def emit(self, builder: ProgramBuilder) -> None:
        x = builder.input()
        builder.output(builder.sum([builder.rotate(x, 1) for _ in range(3)]))
