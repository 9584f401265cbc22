"""The grid of plans that run ahead of time: what is promised of errors and of hiding holds for all weights and x."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler import grid as grids
from helora_core.compiler import rounding
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.exponents import normalized_tokens
from helora_core.compiler.grid import GRID_BITS, Correlation, chosen_grid, correlation_of, hiding_bits
from helora_core.compiler.integers import integer_factors
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput, InvalidParameters, InvalidProgram, LeakageRefused, PrecisionLost
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Vector
from helora_core.params.noise import ERROR_STD
from tests.compiler import drawn
from tests.registered import ACCEPTED

SHAPES = st.builds(
    ModuleShape,
    d_in=st.integers(1, 20_000),
    d_out=st.integers(1, 20_000),
    rank=st.one_of(st.integers(1, 256), st.integers(1, 8)),
).filter(lambda shape: shape.rank * (shape.d_in + shape.d_out) < 4_000_000)  # larger programs are refused
USUAL = ModuleShape.parse("576:768:16")


def planned(shape: ModuleShape = USUAL, packing: str = "precomputed", **options: Any) -> Plan:
    strategy = get_manager().load_packing(packing)
    return compile_plan(shape, strategy, assume=ACCEPTED, **{"precision_bits": 0.0, **options})


def correlation(plan: Plan) -> Correlation:
    assert plan.correlation is not None
    return plan.correlation


def answered(plan: Plan, module: LoRAModule, x: Vector, rng: np.random.Generator) -> Vector:
    """Δ as both phases give it, in Python's integers: masks, cut and all, but no encryption."""
    how, grid = correlation(plan).how, correlation(plan).grid
    scaled, exponents = normalized_tokens(x)
    integers = np.rint(np.ldexp(scaled, grid.x_bits)).astype(np.int64).astype(object)
    r, s = (
        np.array([[int.from_bytes(rng.bytes(8), "big") for _ in range(count)] for _ in x], dtype=object)
        for count in (plan.shape.d_in, plan.shape.d_out)
    )
    down, up = (factor.astype(object) for factor in integer_factors(plan, module))
    f, g, t = 64 - correlation(plan).answer_bits, 64 - how.top_bits, 1 << 64
    v = ((integers - r) % t @ down.T @ up.T + s) % t >> f
    c = (r @ down.T @ up.T - s) % t >> g
    total = ((v << f) + (c << g) + (0 if how.exact else (1 << f - 1) + (1 << g - 1))) % t
    total = np.where(total >= t // 2, total - t, total)
    delta = np.ldexp(total.astype(np.float64), -grid.bits)
    return np.ldexp(delta, exponents[:, np.newaxis] + (plan.exponent or 0))


class TestBound:
    @given(data=st.data(), packing=st.sampled_from(["precomputed", "precomputed_exact"]))
    def test_the_lora_in_integers_keeps_to_it(self, data: st.DataObject, packing: str) -> None:
        module = data.draw(drawn.modules(widest=60))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        kind, size = data.draw(st.sampled_from(drawn.ACTIVATIONS)), 10.0 ** data.draw(st.integers(-8, 8))
        x = drawn.activations(kind, 2, module.down, rng) * size
        try:
            plan = planned(module.shape, packing).for_module(module)
        except PrecisionLost:
            assume(False)  # constant matrices, for one, are refused
        units = np.ldexp(1.0, normalized_tokens(x)[1] + (plan.exponent or 0))
        errors = np.max(np.abs(answered(plan, module, x, rng) - module.reference_delta(x)), axis=1)
        assert (errors <= plan.precision().error_bound * units * (1 + 1e-9)).all()

    @pytest.mark.parametrize("shape", ["1:1:1", "3:5:2", "64:48:8", "96:64:8", "576:768:16", "300:20:40", "1536:64:4"])
    def test_no_module_with_random_weights_is_refused(self, shape: str) -> None:
        """Nor one whose rows weigh as much as any can: ``down`` keeps lengths, and rows of ``up`` have norm one."""
        parsed = ModuleShape.parse(shape)
        plan = planned(parsed)
        for seed in range(20):
            plan.for_module(synthetic_module(parsed, seed=seed))
            plan.for_module(heaviest(parsed, seed))

    def test_an_allowance_that_is_a_fifth_smaller_refuses_some(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grids, "ALLOWANCE", grids.ALLOWANCE / 1.25)
        plan, refused = planned(), 0
        for seed in range(20):
            try:
                plan.for_module(heaviest(USUAL, seed))
            except PrecisionLost:
                refused += 1
        assert refused

    def test_what_is_refused_would_have_broken_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """x along the row that rounding moves most."""
        module, rng = constant(), np.random.default_rng(0)
        with pytest.raises(PrecisionLost, match="far from random") as refusal:
            planned(module.shape).for_module(module)
        assert "online packing" in str(refusal.value.hint)
        monkeypatch.setattr("helora_core.compiler.plan.check_rounding", lambda *arguments: None)
        monkeypatch.setattr("helora_core.compiler.integers.check_rounding", lambda *arguments: None)
        plan = planned(module.shape).for_module(module)
        x = np.ones((1, module.shape.d_in)) / math.sqrt(module.shape.d_in)
        error = np.max(np.abs(answered(plan, module, x, rng) - module.reference_delta(x)))
        assert error > plan.precision().error_bound * 2.0 ** (plan.exponent or 0)

    def test_one_channel_that_is_far_larger_costs_no_bit(self) -> None:
        """In x or in the weights: the bound is relative to norms."""
        module, rng = synthetic_module(USUAL, seed=2), np.random.default_rng(2)
        down = module.down.copy()
        down[:, 7] *= 300
        for weights in (module, LoRAModule("wide", down, module.up, module.scaling)):
            plan = planned().for_module(weights)
            x = rng.normal(size=(2, USUAL.d_in))
            x[:, 5] *= 300
            units = np.ldexp(1.0, normalized_tokens(x)[1] + (plan.exponent or 0))
            errors = np.max(np.abs(answered(plan, weights, x, rng) - weights.reference_delta(x)), axis=1)
            assert (errors <= plan.precision().error_bound * units).all()

    @given(seed=st.integers(0, 2**32), columns=st.integers(1, 40), rank=st.integers(1, 6))
    def test_how_far_rows_move_is_never_understated(self, seed: int, columns: int, rank: int) -> None:
        rng = np.random.default_rng(seed)
        down, up = rng.normal(size=(rank, columns)) / 8, rng.normal(size=(5, rank)) / 4
        rounded = [np.rint(each * 2.0**bits) / 2.0**bits for each, bits in ((down, 9), (up, 7))]
        moved = np.linalg.norm(up @ down - rounded[1] @ rounded[0], axis=1).max()
        assert moved <= rounding.moved_by_rounding(down, up, 9, 7) <= moved * (1 + 1e-6) + 1e-9


def heaviest(shape: ModuleShape, seed: int) -> LoRAModule:
    """Norms that are as large as they may be, a little below the powers of two that scale them."""
    rng = np.random.default_rng(seed)
    down = rng.normal(size=(shape.rank, shape.d_in))
    if shape.rank <= shape.d_in:
        down = np.linalg.qr(down.T)[0].T
    up = rng.normal(size=(shape.d_out, shape.rank))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    return LoRAModule("heaviest", down * (1 - 1e-9), up * (1 - 1e-9), 1.0)


def constant() -> LoRAModule:
    """Every remainder is the same, and they add up."""
    return LoRAModule("constant", np.full((16, 200), 0.7), np.full((50, 16), 0.9), 1.0)


class TestGrid:
    @given(shape=SHAPES)
    def test_it_is_within_every_limit(self, shape: ModuleShape) -> None:
        grid = chosen_grid(shape)
        assert grid.bits == GRID_BITS
        assert min(grid.x_bits, grid.down_bits, grid.up_bits) >= 1
        assert max(grid.down_bits, grid.up_bits) <= 22
        report = planned(shape).precision()
        assert sum(report.terms.values()) == pytest.approx(1.0)
        assert report.terms["dropped bits"] <= 1 / 16

    @pytest.mark.parametrize("shape", ["576:768:16", "1536:1536:32", "4096:4096:16", "4097:128:8", "11008:4096:16"])
    def test_no_neighbour_is_better(self, shape: str) -> None:
        parsed = ModuleShape.parse(shape)
        best = chosen_grid(parsed)

        def bound(grid: Any) -> float:
            return sum(grids._rounding(parsed, grid).values())

        for x, down, up in ((1, -1, 0), (1, 0, -1), (-1, 1, 0), (-1, 0, 1), (0, 1, -1), (0, -1, 1)):
            other = type(best)(best.x_bits + x, best.down_bits + down, best.up_bits + up)
            if other.down_bits <= 22 and other.down_bits + other.up_bits <= 41:
                assert bound(best) <= bound(other)

    def test_the_usual_one(self) -> None:
        found = correlation(planned())
        assert (found.grid.x_bits, found.grid.down_bits, found.grid.up_bits) == (22, 21, 19)
        assert (found.answer_bits, *found.how) == (24, 27, 35, False)
        assert 12.2 < planned().precision().bits < 12.3

    def test_scales_that_are_no_grid_are_refused(self) -> None:
        plan = planned()
        for change in ({"input_bits": 200}, {"down_bits": 23, "up_bits": 17}):
            scales = type(plan.scales)(**{**plan.to_dict()["scales"], **change})
            with pytest.raises(InvalidParameters, match="sum to 62"):
                correlation_of(plan.program, plan.shape, plan.params, scales)


class TestWhatIsKept:
    @pytest.mark.parametrize(("shape", "kept"), [("4096:4096:16", "10.1"), ("11008:4096:16", "9.0")])
    def test_a_refusal_says_how_many_bits(self, refused: Any, shape: str, kept: str) -> None:
        with refused(PrecisionLost, f"keeps {kept} bits", shape, hint="online packing"):
            planned(ModuleShape.parse(shape), precision_bits=12)

    def test_integers_that_could_wrap_around_are_refused(self, refused: Any) -> None:
        """Norms keep them away from it; a plan whose grid had two bits more would not."""
        module, plan = heaviest(USUAL, 1), planned()
        grid = type(correlation(plan).grid)(24, 21, 19)
        wide = type(correlation(plan))(grid, correlation(plan).how, 24, 80.0)
        with refused(PrecisionLost, "wrap around", hint="online packing"):
            rounding.check_rounding("m", USUAL, module.down, module.scaled_up, wide)


class TestHiding:
    @given(shape=SHAPES, ring=st.sampled_from([4096, 8192, 16384]), packing=st.sampled_from(["", "_exact"]))
    def test_every_plan_hides_noise_to_the_distance_it_was_asked_for(
        self, shape: ModuleShape, ring: int, packing: str
    ) -> None:
        if packing and ring == 4096:
            return
        plan = planned(shape, f"precomputed{packing}", ring_degree=ring, sanitize_bits=40)
        assert correlation(plan).distance_bits >= 40

    def test_it_is_the_mean_of_the_noise_over_the_width(self) -> None:
        """Measured with random weights: E is a sum of errors times a row of W'', and three more products."""
        plan, rng = planned(), np.random.default_rng(3)
        down, up = integer_factors(plan.for_module(heaviest(USUAL, 4)), heaviest(USUAL, 4))
        rows = np.linalg.norm(up[:50].astype(float) @ down.astype(float), axis=1)
        errors = rng.normal(size=(50, 2000)) * ERROR_STD * np.hypot(rows, math.sqrt(4 * 8192 / 3))[:, np.newaxis]
        found = correlation(plan)
        measured = 84 + 64 - found.how.top_bits - math.log2(np.abs(errors).mean())
        assert found.distance_bits < measured < found.distance_bits + 1

    def test_more_is_dropped_where_it_takes_that(self) -> None:
        small, large = (correlation(planned(ring_degree=ring)) for ring in (4096, 8192))
        bare = correlation(planned(ring_degree=4096, private_weights=False))
        assert bare.distance_bits < 40 <= small.distance_bits < 41
        assert small.answer_bits == bare.answer_bits - 1 == large.answer_bits - 1
        assert (small.how.top_bits, bare.how.top_bits) == (small.answer_bits, bare.answer_bits + 3)

    @pytest.mark.parametrize(("packing", "ring"), [("precomputed_exact", 8192), ("precomputed", 4096)])
    def test_a_distance_that_is_not_reached_is_refused_with_the_numbers(
        self, refused: Any, packing: str, ring: int
    ) -> None:
        with refused(LeakageRefused, packing, "2^-64 is asked for", hint="--sanitize 4"):
            planned(packing=packing, ring_degree=ring, sanitize_bits=64)

    def test_a_bit_more_of_flood_hides_a_bit_more(self) -> None:
        plan = planned()
        grid = correlation(plan).grid
        assert hiding_bits(USUAL, grid, plan.params, 41) - hiding_bits(USUAL, grid, plan.params, 40) == pytest.approx(1)
        assert hiding_bits(USUAL, grid, plan.params, 40) - hiding_bits(USUAL, grid, plan.params, 0) == pytest.approx(41)


class TestKeyBits:
    @pytest.mark.parametrize("ring", [4096, 8192, 16384])
    def test_what_the_second_polynomial_loses_stays_below_an_eighth_of_a_unit(self, ring: int) -> None:
        """Times a ternary key; with two bits less of it, it would not."""
        found, rng = correlation(planned(ring_degree=ring)), np.random.default_rng(ring)
        key = rng.integers(-1, 2, size=ring)
        lost = rng.uniform(-0.5, 0.5, size=(1500, ring)) @ key * 2.0 ** (64 - found.how.key_bits)
        largest = np.abs(lost).max() / 2.0**found.dropped_bits
        assert largest < 1 / 8 < 4 * largest

    def test_a_plan_that_drops_more_of_it_is_refused(self) -> None:
        plan = planned()
        ops = tuple(
            msgspec.structs.replace(op, low_bits=(37, 30, 40)) if op.kind is OpKind.CORRELATE else op
            for op in plan.program.ops
        )
        program = msgspec.structs.replace(plan.program, ops=ops)
        with pytest.raises(InvalidParameters, match="37 and 30 low bits"):
            correlation_of(program, plan.shape, plan.params, plan.scales)


class TestQueries:
    def test_an_exact_answer_shows_a_whole_word_and_fractions(self) -> None:
        """The attack on fractions of q₁ (tests/attacks) reads six columns of 13 bits with ``up`` on 19 bits."""
        assert 64 + 19 < planned(packing="precomputed_exact").bits_per_query < 64 + 19 + 3
        assert 24 + 19 < planned().bits_per_query < 24 + 19 + 3

    def test_fewer_bits_of_a_weight_take_fewer_queries(self) -> None:
        plan = planned()
        assert [plan.queries_to_copy(bits) for bits in (4, 14)] == [51, 177]
        online = compile_plan(USUAL, get_manager().load_packing("rank_bsgs"))
        assert (online.bits_per_query, online.queries_to_copy(14)) == (0.0, 576)

    def test_columns_packed_side_by_side_are_read_off_an_answer(self) -> None:
        """The attack that the figure is for: one exact answer shows several columns of ``down``, here two."""
        module = synthetic_module(ModuleShape.parse("40:64:4"), seed=1)
        plan = planned(module.shape, "precomputed_exact").for_module(module)
        down, up = integer_factors(plan, module)
        places = [0, 24]
        y = np.zeros(40, dtype=object)
        y[[3, 9]] = [1 << place for place in places]
        answer = up.astype(object) @ (down.astype(object) @ y)
        z = np.linalg.solve((up.T @ up).astype(float), up.T.astype(float) @ answer.astype(float))
        for read, row in zip(z, down, strict=True):
            assert abs(round(read) - (int(row[3]) + (int(row[9]) << 24))) < 2**8
        assert plan.bits_per_query >= 24 + 22


class TestIntegers:
    def test_zeros_stay_zeros_and_dead_rows_and_columns_are_left_out(self) -> None:
        dense = synthetic_module(ModuleShape.parse("40:24:4"), seed=1)
        down, up = dense.down.copy(), dense.up.copy()
        down[:, 16:] = 0
        up[8:] = 0
        down[0, 3] = 0
        module = LoRAModule("sparse", down, up, 1.0)
        plan = planned(module.shape, module=module)
        factors = integer_factors(plan, module)
        assert [factor.shape for factor in factors] == [(4, 16), (8, 4)]
        assert {factor.dtype for factor in factors} == {np.dtype(np.int64)}
        assert factors[0][0, 3] == 0
        assert len(plan.program.inputs) == 16

    def test_weights_that_round_to_zero_are_zero(self) -> None:
        module = synthetic_module(ModuleShape.parse("40:24:4"), seed=1)
        down = module.down.copy()
        down[:, 1] *= 2.0**-40
        small = LoRAModule("small", down, module.up, 1.0)
        assert not integer_factors(planned(small.shape), small)[0][:, 1].any()

    def test_other_plans_have_none(self) -> None:
        module = synthetic_module(USUAL, seed=1)
        with pytest.raises(InvalidProgram, match="rank_bsgs does not say"):
            integer_factors(compile_plan(USUAL, get_manager().load_packing("rank_bsgs")), module)

    def test_another_shape_or_weights_that_round_badly_are_refused(self) -> None:
        plan = planned()
        with pytest.raises(InvalidInput):
            integer_factors(plan, synthetic_module(ModuleShape.parse("40:24:4"), seed=1))
        module = constant()
        with pytest.raises(PrecisionLost):
            integer_factors(planned(module.shape), module)
