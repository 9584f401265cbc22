"""Programs ahead of time: what breaks a law of theirs is refused when it is compiled."""

from __future__ import annotations

from typing import Any

import pytest

from helora_core.compiler.compile import compile_plan
from helora_core.errors import InvalidParameters, InvalidProgram, PrecisionLost
from helora_core.packing.protocol import Grid, ProgramBuilder
from helora_core.params.ckks import CKKSParams
from tests.parties.ahead import GRID, Ahead, AheadLayout
from tests.parties.pair import SHAPE


class TestLaws:
    """Of programs ahead of time: what breaks one is refused when it is compiled."""

    def emitted(self, emit: Any, **attributes: Any) -> Any:
        class Layout(AheadLayout):
            def emit(self, builder: ProgramBuilder) -> None:
                emit(self, builder)

        class Faulty(Ahead):
            def layouts(self, shape: Any, slots: int, **options: Any) -> Any:
                yield Layout(shape, 2 * slots)

        for name, value in attributes.items():
            setattr(Faulty, name, value)
        return compile_plan(SHAPE, Faulty(), precision_bits=0.5)

    def test_randomness_and_activations_do_not_mix(self) -> None:
        def mixed(layout: AheadLayout, builder: ProgramBuilder) -> None:
            builder.output(builder.mask(builder.rescale(builder.add(builder.random(), builder.input())), "s"))

        with pytest.raises(InvalidProgram, match="takes activations"):
            self.emitted(mixed)

    def test_every_result_has_a_mask_of_its_own(self) -> None:
        def bare(layout: AheadLayout, builder: ProgramBuilder) -> None:
            builder.output(builder.rescale(builder.random()))

        def twice(layout: AheadLayout, builder: ProgramBuilder) -> None:
            r = builder.rescale(builder.random())
            builder.output(builder.mask(r, "s"))
            builder.output(builder.mask(r, "s"))

        with pytest.raises(InvalidProgram, match="no mask"):
            self.emitted(bare)
        with pytest.raises(InvalidProgram, match="same mask"):
            self.emitted(twice)

    def test_a_grid_fits_doubles_and_the_primes(self) -> None:
        with pytest.raises(InvalidParameters, match="47 bits"):
            self.emitted(AheadLayout.emit, grid=Grid(20, 13, 14))
        short = CKKSParams(ring_degree=8192, data_bits=(28, 40), special_bits=(60,), scale_bits=40)
        with pytest.raises(InvalidParameters, match="do not fit"):
            compile_plan(SHAPE, Ahead(), params=short)

    def test_noise_that_reaches_the_grid_is_refused(self) -> None:
        narrow = CKKSParams(ring_degree=8192, data_bits=(40, 40, 40), special_bits=(60,), scale_bits=40)
        plan = compile_plan(SHAPE, Ahead(), params=narrow)
        assert plan.correlation is not None
        assert plan.correlation.guard_bits < 52 + GRID.x_bits
        with pytest.raises(PrecisionLost, match="reaches the grid"):
            plan.precision()
