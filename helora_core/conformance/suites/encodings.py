"""Encoding round trips: values come back unchanged, at the level and scale asked for, in every encoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding
from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.conformance.profile import searched
from helora_core.conformance.requirements import requires
from helora_core.conformance.tolerance import Expected
from helora_core.conformance.values import random_complex, random_slots, slot_vectors


class Encodings:
    """Round trips."""

    @searched
    @given(values=slot_vectors())
    def test_real_slots_round_trip_and_the_rest_is_zero(self, bench: Bench, values: NDArray[np.float64]) -> None:
        bench.agrees(*bench.encrypted(values))

    @requires("complex slots")
    def test_complex_slots_keep_their_imaginary_part(self, bench: Bench) -> None:
        bench.agrees(*bench.encrypted(random_complex(1), Encoding.COMPLEX_SLOTS))

    @requires("complex slots")
    def test_real_slots_are_the_real_part_of_complex_slots(self, bench: Bench) -> None:
        values = random_complex(2)
        ciphertext, expected = bench.encrypted(values, Encoding.COMPLEX_SLOTS)
        real = bench.fresh(values.real.copy())
        assert real.tolerance <= 2 * expected.tolerance
        bench.agrees(ciphertext, real)

    @requires("coefficients")
    def test_coefficients_round_trip(self, bench: Bench) -> None:
        bench.agrees(*bench.encrypted(random_slots(3, 2 * SLOTS), Encoding.COEFFICIENTS))

    @requires("coefficients")
    def test_the_constant_coefficient_is_the_same_in_every_slot(self, bench: Bench) -> None:
        ciphertext, _ = bench.encrypted(np.array([3.5]), Encoding.COEFFICIENTS)
        bench.agrees(ciphertext, bench.fresh(np.full(SLOTS, 3.5)))

    @requires("coefficients")
    def test_coefficients_are_those_of_the_polynomial_itself(self, bench: Bench) -> None:
        """A rotation by one slot maps x to x^g, so it shows whether g, and with it the embedding, is right."""
        x = np.zeros(2 * SLOTS)
        x[1] = 1.0
        ciphertext, expected = bench.encrypted(x, Encoding.COEFFICIENTS)
        image = np.zeros(2 * SLOTS)
        image[bench.capabilities.slot_generator] = 1.0
        # The worst slot's noise bounds that of every coefficient.
        error = bench.fresh(np.ones(SLOTS)).rotate(1).error
        bench.agrees(bench.evaluator.rotate(ciphertext, 1), replace(expected, values=image, error=error))

    @requires("coefficients")
    def test_products_of_coefficients_are_negacyclic_convolutions(self, bench: Bench) -> None:
        ciphertext, expected = bench.encrypted(random_slots(4, 2 * SLOTS), Encoding.COEFFICIENTS)
        shift = np.zeros(2 * SLOTS)
        shift[3] = 2.0
        product = bench.evaluator.multiply_plain(ciphertext, bench.encoded(shift, encoding=Encoding.COEFFICIENTS))
        wrapped = 2.0 * np.concatenate([-expected.values[-3:], expected.values[:-3]])
        # Each coefficient of the product sums N terms with the plaintext's rounding.
        error = 2 * expected.error + expected.encoding_error(2.0**SCALE_BITS) * np.abs(expected.values).sum()
        scale = expected.scale * 2.0**SCALE_BITS
        bench.agrees(
            product,
            Expected(wrapped, error, bench.params, expected.level, scale, Encoding.COEFFICIENTS),
        )

    def test_a_scalar_multiplies_every_slot(self, bench: Bench) -> None:
        ciphertext, expected = bench.encrypted(random_slots(5))
        scalar = bench.encoded(np.array([-2.75]), encoding=Encoding.SCALAR)
        product = expected.multiply_plain(np.full(SLOTS, -2.75), SCALE_BITS)
        bench.agrees(bench.evaluator.multiply_plain(ciphertext, scalar), product)

    def test_a_fresh_ciphertext_has_the_highest_level_and_the_scale_asked_for(self, bench: Bench) -> None:
        ciphertext, _ = bench.encrypted(random_slots(6))
        assert bench.evaluator.level(ciphertext) == bench.params.max_level
        if bench.explicit:
            assert bench.evaluator.scale(ciphertext) == 2.0**SCALE_BITS
        decryptor, _ = bench.backend.generate_keys(bench.params, ())
        unsent = decryptor.encrypt(random_slots(6), scale=2.0**SCALE_BITS)
        assert decryptor.level(unsent) == bench.params.max_level
        assert decryptor.scale(unsent) == bench.evaluator.scale(ciphertext)

    @requires("free plaintext scale")
    def test_any_scale_round_trips(self, bench: Bench) -> None:
        values = random_slots(7)
        for scale_bits in (20, 31, 45, 60):
            ciphertext = bench.client.encrypt(values, scale_bits=scale_bits)
            assert bench.evaluator.scale(ciphertext) == 2.0**scale_bits
            bench.agrees(ciphertext, bench.fresh(values, scale_bits))

    @requires("free plaintext scale", "explicit rescaling")
    def test_a_plaintext_has_the_scale_asked_for(self, bench: Bench) -> None:
        ciphertext, expected = bench.encrypted(random_slots(9))
        plain = random_slots(10)
        for scale_bits in (22, 35, 50):
            encoded = bench.server.encoder.encode(plain, level=bench.params.max_level, scale_bits=scale_bits)
            product = bench.evaluator.multiply_plain(ciphertext, encoded)
            bench.agrees(product, expected.multiply_plain(plain, scale_bits))

    def test_values_beyond_64_bits_come_back_if_the_modulus_holds_them(self, bench: Bench) -> None:
        """2^43 at scale 2^40 is an integer of 83 bits: it fits the 140 of the modulus, but no machine word."""
        values = random_slots(11) * 2.0**40
        bench.agrees(*bench.encrypted(values))
        ciphertext, expected = bench.encrypted(random_slots(12))
        total = bench.evaluator.add_plain(ciphertext, bench.encoded(values))
        bench.agrees(total, expected.add_plain(values))

    def test_an_all_zero_plaintext_multiplies_to_zero(self, bench: Bench) -> None:
        ciphertext, expected = bench.encrypted(random_slots(8))
        zero = bench.evaluator.multiply_plain(ciphertext, bench.encoded(np.zeros(SLOTS)))
        bench.agrees(zero, expected.multiply_plain(np.zeros(SLOTS), SCALE_BITS))
