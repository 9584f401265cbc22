"""Levels and scales: they follow the program, scales drift exactly as the primes do, and running out is an error."""

from __future__ import annotations

import numpy as np
import pytest

from helora_core.conformance.bench import SCALE_BITS, SLOTS, STEPS, Bench
from helora_core.conformance.requirements import requires, slow
from helora_core.conformance.values import random_slots
from helora_core.errors import LevelExhausted, LevelMismatch, PrecisionLost, ScaleMismatch
from helora_core.params.presets import SAFE


class LevelsAndScales:
    """Laws of rescaling, and of operands that must match."""

    @requires("explicit rescaling")
    def test_rescale_takes_one_level_and_keeps_the_value(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(1))
        plain = random_slots(2)
        product = bench.evaluator.multiply_plain(a, bench.encoded(plain))
        lower = bench.evaluator.rescale(product)
        assert bench.evaluator.level(lower) == bench.evaluator.level(product) - 1
        bench.agrees(lower, x.multiply_plain(plain, SCALE_BITS).rescale())

    @requires("explicit rescaling")
    def test_multiplication_keeps_the_level_and_multiplies_the_scale(self, bench: Bench) -> None:
        a, _ = bench.encrypted(random_slots(3))
        product = bench.evaluator.multiply_plain(a, bench.encoded(random_slots(4)))
        assert bench.evaluator.level(product) == bench.params.max_level
        assert bench.evaluator.scale(product) == 2.0 ** (2 * SCALE_BITS)

    @requires("explicit rescaling", "free plaintext scale")
    def test_rescale_divides_the_scale_by_the_prime_and_not_by_a_power_of_two(self, bench: Bench) -> None:
        a, _ = bench.encrypted(random_slots(5))
        product = bench.evaluator.multiply_plain(a, bench.encoded(random_slots(6)))
        lower = bench.evaluator.rescale(product)
        prime = bench.params.data_primes[-1]
        assert bench.evaluator.scale(lower) == bench.evaluator.scale(product) / prime

    @requires("explicit rescaling")
    def test_the_whole_chain_can_be_used_and_no_more(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(7))
        for level in range(bench.params.max_level, 0, -1):
            plain = random_slots(level, SLOTS)
            a = bench.evaluator.rescale(bench.evaluator.multiply_plain(a, bench.encoded(plain, level)))
            x = x.multiply_plain(plain, SCALE_BITS).rescale()
            bench.agrees(a, x)
        assert bench.evaluator.level(a) == 0
        with pytest.raises(LevelExhausted):
            bench.evaluator.rescale(a)

    def test_a_product_of_depth_two_is_right(self, bench: Bench) -> None:
        """Two products in a row, as in a LoRA, whether the program or the library rescales."""
        a, x = bench.encrypted(random_slots(8))
        first, second = random_slots(9), random_slots(10)
        evaluator, top = bench.evaluator, bench.params.max_level
        once = evaluator.rescale(evaluator.multiply_plain(a, bench.encoded(first, top)))
        twice = evaluator.rescale(evaluator.multiply_plain(once, bench.encoded(second, top - 1)))
        lower = x.multiply_plain(first, SCALE_BITS).rescale()
        bench.agrees(twice, lower.multiply_plain(second, SCALE_BITS).rescale())

    @requires("explicit rescaling")
    def test_operands_of_different_levels_are_refused(self, bench: Bench) -> None:
        (a, _), (b, _) = bench.encrypted(random_slots(11)), bench.encrypted(random_slots(12))
        lower = bench.evaluator.rescale(bench.evaluator.multiply_plain(a, bench.encoded(np.ones(SLOTS))))
        for operation in (bench.evaluator.add, bench.evaluator.sub):
            with pytest.raises(LevelMismatch):
                operation(lower, b)
        with pytest.raises(LevelMismatch):
            bench.evaluator.multiply_plain(lower, bench.encoded(np.ones(SLOTS)))
        with pytest.raises(LevelMismatch):
            bench.evaluator.multiply_plain(a, bench.encoded(np.ones(SLOTS), bench.params.max_level - 1))
        for plaintext_level in (bench.params.max_level, 0):
            with pytest.raises(LevelMismatch):
                bench.evaluator.add_plain(lower, bench.encoded(np.ones(SLOTS), plaintext_level))

    @requires("explicit rescaling")
    def test_operands_of_different_scales_are_refused(self, bench: Bench) -> None:
        (a, _), (b, _) = bench.encrypted(random_slots(13)), bench.encrypted(random_slots(14))
        product = bench.evaluator.multiply_plain(a, bench.encoded(np.ones(SLOTS)))
        for operation in (bench.evaluator.add, bench.evaluator.sub):
            with pytest.raises(ScaleMismatch):
                operation(product, b)
        with pytest.raises(ScaleMismatch):
            bench.evaluator.add_plain(product, bench.encoded(np.ones(SLOTS)))

    @requires("explicit rescaling", "free plaintext scale")
    def test_scales_that_drifted_apart_are_refused(self, bench: Bench) -> None:
        """Primes are not powers of two: after a rescale the scale is off 2^40 by some 10^-7, as the sum would be."""
        a, _ = bench.encrypted(random_slots(16))
        lower = bench.evaluator.rescale(bench.evaluator.multiply_plain(a, bench.encoded(random_slots(17))))
        level = bench.evaluator.level(lower)
        assert bench.evaluator.scale(lower) != 2.0**SCALE_BITS
        with pytest.raises(ScaleMismatch):
            bench.evaluator.add_plain(lower, bench.encoded(np.ones(SLOTS), level))

    @requires("explicit rescaling")
    def test_a_product_that_outgrows_the_modulus_is_refused_and_does_not_wrap(self, bench: Bench) -> None:
        """At the last level 60 bits are left: a scale of 2^80 does not fit them, however small the values."""
        a, _ = bench.encrypted(random_slots(18))
        ones = np.ones(SLOTS)
        for level in range(bench.params.max_level, 0, -1):
            a = bench.evaluator.rescale(bench.evaluator.multiply_plain(a, bench.encoded(ones, level)))
        with pytest.raises(PrecisionLost):
            bench.evaluator.multiply_plain(a, bench.encoded(ones, 0))

    @requires("explicit rescaling")
    def test_negation_costs_no_level(self, bench: Bench) -> None:
        a, _ = bench.encrypted(random_slots(15))
        assert bench.evaluator.level(bench.evaluator.negate(a)) == bench.params.max_level
        assert bench.evaluator.scale(bench.evaluator.negate(a)) == bench.evaluator.scale(a)

    @slow
    @requires("explicit rescaling")
    def test_a_larger_ring_keeps_the_laws_too(self, bench: Bench) -> None:
        larger = Bench(bench.library, SAFE)
        a, x = larger.encrypted(random_slots(19, SAFE.slots))
        for level in range(SAFE.max_level, 0, -1):
            plain = random_slots(20 + level, SAFE.slots)
            a = larger.evaluator.rescale(larger.evaluator.multiply_plain(a, larger.encoded(plain, level)))
            x = x.multiply_plain(plain, SCALE_BITS).rescale()
            for steps in STEPS:
                larger.agrees(larger.evaluator.rotate(a, steps), x.rotate(steps))

    @pytest.mark.parametrize("level", [-1, 3])
    def test_encoding_for_a_level_that_does_not_exist_is_refused(self, bench: Bench, level: int) -> None:
        with pytest.raises(LevelExhausted):
            bench.encoded(np.ones(SLOTS), level)
