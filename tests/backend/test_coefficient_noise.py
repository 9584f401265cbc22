"""Noise for coefficients: its sizes and shapes, where it comes from, and that all of it is added."""

from __future__ import annotations

import math
import secrets

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend import coefficient_noise
from helora_core.backend.coefficient_noise import LARGEST_NORMAL, add_integers, normal_in_slots, normal_integers
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.errors import PrecisionLost
from tests.backend.bench import TOP, Bench, N, by_chance, floats, is_normal
from tests.backend.exact import least


class TestIntegers:
    COUNT = 1 << 15

    @pytest.mark.parametrize("bits", [0, 1, 30, 46, 47, 90, 140])
    def test_normal_integers_have_the_deviation_asked_for(self, bits: int) -> None:
        noise = floats(normal_integers(self.COUNT, bits)) / 2.0**bits
        # At 2^0, rounding to integers adds 1/12.
        assert np.std(noise) == pytest.approx(math.sqrt(1 + 4.0**-bits / 12), rel=0.03)
        assert abs(np.mean(noise)) < by_chance(noise.size)
        assert np.max(np.abs(noise)) <= LARGEST_NORMAL + 2.0**-bits
        if bits > 1:
            is_normal(noise, 1.0)

    @pytest.mark.parametrize("bits", [50, 90, 96, 140])
    def test_every_bit_below_the_top_is_random(self, bits: int) -> None:
        noise = normal_integers(self.COUNT, bits).exact()
        for bit in range(bits - 1):
            assert abs(float(np.mean([each >> bit & 1 for each in noise])) - 0.5) < by_chance(4 * len(noise))

    def test_all_randomness_is_the_operating_systems(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def counted(size: int) -> bytes:
            asked.append(size)
            return (bytes(range(256)) * (size // 256 + 1))[:size]

        asked: list[int] = []
        draws = (lambda: normal_integers(64, 90), lambda: normal_in_slots(64, 90, np.ones(32, dtype=bool), 5))
        for draw in draws:
            np.random.seed(0)
            first = draw().exact()
            np.random.seed(0)
            assert first != draw().exact()
        with monkeypatch.context() as patched:
            patched.setattr(secrets, "token_bytes", counted)
            for draw in draws:
                assert draw().exact() == draw().exact()
        # Both draws twice: a word a normal variate, and one a number for what is below it.
        assert sum(asked) == 2 * 2 * (64 * 8 + 64 * 8)

    @pytest.mark.parametrize(("bits", "limbs"), [(0, 1), (46, 1), (47, 1), (90, 2), (94, 2), (95, 2), (140, 3)])
    def test_a_flood_is_added_in_few_limbs_that_fit_a_double(self, bits: int, limbs: int) -> None:
        noise = normal_integers(1024, bits)
        assert len(noise.limbs) == limbs
        assert np.max(np.abs(noise.limbs)) < 2**51

    @given(st.lists(st.integers(-(2**47), 2**47), min_size=1, max_size=8), st.integers(40, 47))
    def test_parts_add_up_to_the_limb_and_each_is_taken(self, integers: list[int], fits: int) -> None:
        def encode(part: NDArray[np.int64]) -> NDArray[np.int64]:
            if np.max(np.abs(part)) > 2**fits:
                raise PrecisionLost("too large", hint="none")
            return part

        limb = np.array(integers, dtype=np.int64)
        parts = list(coefficient_noise._in_parts(limb, encode))
        assert np.array_equal(np.sum(parts, axis=0), limb)
        assert len(parts) <= 2 ** (47 - fits)

    def test_an_encoder_that_takes_nothing_is_believed_in_the_end(self) -> None:
        def refuse(part: NDArray[np.int64]) -> None:
            raise PrecisionLost("too large", hint="none")

        with pytest.raises(PrecisionLost):
            list(coefficient_noise._in_parts(np.ones(4, dtype=np.int64), refuse))

    @pytest.mark.parametrize("level", range(TOP + 1))
    def test_integers_are_added_exactly(self, bench: Bench, x: NDArray[np.float64], level: int) -> None:
        """As large as the modulus takes them, and larger: modulo it, they are what they are."""
        ciphertext = bench.encrypted(x, level)
        integers = normal_integers(N, bench.modulus(level).bit_length() + 4)
        added = bench.added(ciphertext, add_integers(*bench.parts, ciphertext, integers))
        assert added.tolist() == least(integers.exact(), bench.modulus(level))

    @pytest.mark.parametrize(("bits", "level"), [(30, 0), (50, TOP), (95, TOP)])
    def test_through_doubles_all_but_the_last_bits_of_the_largest_are_added(
        self, bench: Bench, x: NDArray[np.float64], bits: int, level: int
    ) -> None:
        ciphertext = bench.encrypted(x, level)
        integers = normal_integers(N, bits)
        added = bench.added(ciphertext, add_integers(bench.server, bench.params, bench.inexact, ciphertext, integers))
        error = np.abs(added - np.array(integers.exact(), dtype=object)).astype(float)
        assert np.max(error) <= max(8.0, 2.0 ** (bits - 43))


class TestNormalInSlots:
    @pytest.mark.parametrize("bits", [12, 60, 100])
    @pytest.mark.parametrize("generator", [3, 5])
    def test_what_may_be_read_stays_and_all_else_is_drowned(self, bits: int, generator: int) -> None:
        readable = np.arange(4096) % 3 == 0
        noise = normal_in_slots(8192, bits, readable, generator)
        slots = coefficients_to_slots(floats(noise), 8192, generator)
        # Rounding to integers, and 2^-50 of the noise elsewhere.
        assert np.max(np.abs(slots.real[readable])) < max(6 * math.sqrt(8192 / 24), 2.0 ** (bits - 46))
        is_normal(slots.real[~readable], 2.0**bits)
        is_normal(slots.imag, 2.0**bits)
        assert abs(np.corrcoef(slots.real[~readable], slots.imag[~readable])[0, 1]) < by_chance(2730)

    def test_coefficients_are_smaller_by_the_root_of_the_slots(self) -> None:
        noise = floats(normal_in_slots(8192, 60, np.zeros(4096, dtype=bool), 5))
        is_normal(noise, 2.0**60 / 64)
