"""Programs that run ahead of time: what breaks a law of theirs is refused when it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind, Program, readable
from helora_core.compiler.passes import PASSES
from helora_core.compiler.passes.skip_zeros import skip_zeros
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounds import Phase, RoundKind
from helora_core.errors import InvalidParameters, InvalidProgram
from helora_core.host.manager import get_manager
from helora_core.packing.precomputed import Precomputed, PrecomputedLayout
from helora_core.packing.protocol import ProgramBuilder, ScaleRole
from helora_core.params.ckks import CKKSParams
from tests.registered import ACCEPTED

SHAPE = ModuleShape(d_in=3, d_out=2, rank=2)
Emit = Callable[[PrecomputedLayout, ProgramBuilder], None]


def emitted(emit: Emit, packing: type[Precomputed] = Precomputed) -> Plan:
    class Layout(PrecomputedLayout):
        def emit(self, builder: ProgramBuilder) -> None:
            emit(self, builder)

    class Faulty(packing):  # type: ignore[valid-type,misc]
        def layouts(self, shape: Any, slots: int, **options: Any) -> Any:
            yield Layout(shape, 2 * slots)

    return compile_plan(SHAPE, Faulty(), precision_bits=0, assume=ACCEPTED)


def sums(builder: ProgramBuilder) -> Any:
    z = builder.dot_scalars([builder.random(), builder.random()], "down.0", ScaleRole.DOWN)
    return builder.dot_scalars([z], "up.0", ScaleRole.UP)


def refused_program(said: str, emit: Callable[[ProgramBuilder], None]) -> None:
    with pytest.raises(InvalidProgram, match=said) as refusal:
        emitted(lambda layout, builder: emit(builder))
    assert "fault of the packing" in str(refusal.value.hint)


class TestLaws:
    def test_randomness_and_activations_do_not_mix(self) -> None:
        def mixed(builder: ProgramBuilder) -> None:
            z = builder.dot_scalars([builder.random(), builder.input()], "down.0", ScaleRole.DOWN)
            builder.output(builder.correlate(z, "s"))

        refused_program("takes activations", mixed)

    def test_every_result_is_a_correlation(self) -> None:
        refused_program("no mask|sanitize", lambda builder: builder.output(sums(builder)))

    def test_every_one_has_a_mask_of_its_own(self) -> None:
        def twice(builder: ProgramBuilder) -> None:
            value = sums(builder)
            builder.output(builder.correlate(value, "s"))
            builder.output(builder.correlate(value, "s"))

        def again(builder: ProgramBuilder) -> None:
            result = builder.correlate(sums(builder), "s")
            builder.output(result)
            builder.output(result)

        refused_program("same mask", twice)
        refused_program("same mask", again)

    def test_nothing_is_computed_with_one(self) -> None:
        def further(builder: ProgramBuilder) -> None:
            half = builder.dot_scalars([builder.random()], "down.0", ScaleRole.DOWN)
            read = builder.dot_scalars([builder.correlate(half, "r")], "up.0", ScaleRole.UP)
            builder.output(builder.correlate(read, "s"))

        refused_program("reads a correlation|between 1 and", further)

    def test_there_are_no_operations_but_sums_of_products(self) -> None:
        def added(builder: ProgramBuilder) -> None:
            value = sums(builder)
            builder.output(builder.correlate(builder.add(value, value), "s"))

        refused_program("add in a program ahead of time", added)

    def test_parameters_and_program_run_ahead_together_or_not_at_all(self) -> None:
        plan = emitted(PrecomputedLayout.emit)
        online = compile_plan(SHAPE, get_manager().load_packing("cpmm"), private_weights=False, precision_bits=8)
        wrapped = CKKSParams(
            ring_degree=online.params.ring_degree, data_bits=online.params.data_bits, special_bits=(), scale_bits=40,
            wrap_bits=64,
        )  # fmt: skip
        bare = CKKSParams(ring_degree=8192, data_bits=(60, 60, 60), special_bits=(), scale_bits=40)
        with pytest.raises(InvalidProgram, match="takes activations"):
            annotate(online.program, wrapped, online.scales)
        with pytest.raises(InvalidProgram, match="without a wrap limb"):
            annotate(plan.program, bare, Scales(input_bits=175, down_bits=2, up_bits=2))

    def test_a_packing_that_does_not_say_whether_it_is_exact_is_refused(self) -> None:
        class Silent:
            def __getattr__(self, name: str) -> Any:
                if name == "exact":
                    raise AttributeError(name)
                return getattr(Precomputed(), name)

        with pytest.raises(InvalidParameters, match="whether results are exact"):
            compile_plan(SHAPE, Silent(), assume=ACCEPTED)


class TestProgram:
    def test_it_takes_an_operation_for_each_input_row_and_result(self) -> None:
        program = emitted(PrecomputedLayout.emit).program
        kinds = [op.kind for op in program.ops]
        assert [kinds.count(kind) for kind in (OpKind.INPUT, OpKind.DOT_SCALARS, OpKind.CORRELATE)] == [3, 4, 2]
        assert len(kinds) == 9
        assert 'correlate %7, "mask.1", drop' in readable(program)

    def test_no_pass_shares_or_drops_what_is_under_another_mask(self) -> None:
        def alike(layout: PrecomputedLayout, builder: ProgramBuilder) -> None:
            value = sums(builder)
            for name in ("s", "t"):
                builder.output(builder.correlate(value, name))

        program = emitted(alike).program
        for transform in PASSES:
            assert transform(program) == program
        assert [program.ops[i].constant for i in program.results] == ["s", "t"]

    def test_of_a_row_of_zeros_there_is_no_correlation(self) -> None:
        program = emitted(PrecomputedLayout.emit).program
        skipped: Program = skip_zeros(program, {"up.0": ()})
        assert [output is None for output in skipped.outputs] == [True, False]
        assert [op.constant for op in skipped.ops if op.kind is OpKind.CORRELATE] == ["mask.1"]

    def test_it_is_one_round_ahead_and_one_online(self) -> None:
        plan = emitted(PrecomputedLayout.emit)
        ahead, online = plan.rounds
        assert (ahead.phase, ahead.kind) == (Phase.OFFLINE, RoundKind.HOMOMORPHIC)
        assert (online.phase, online.kind) == (Phase.ONLINE, RoundKind.MODULAR)
        assert ahead.masks == ("mask.0", "mask.1")
        counts = ahead.counts
        assert (counts.encrypts, counts.ct_pt, counts.sanitizes, counts.decrypts) == (3, 10, 2, 2)
        assert ahead.counts == plan.counts
        assert plan.round_trips == 1

    def test_levels_stay_and_scales_end_as_the_grid(self) -> None:
        plan = emitted(PrecomputedLayout.emit)
        assert {info.level for info in plan.values} == {plan.params.max_level}
        assert {plan.values[i].scale_bits for i in plan.program.results} == {62}
