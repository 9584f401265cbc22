"""Integers in limbs and in residues are exact, both ways; uniform ones are uniform."""

from __future__ import annotations

import math
import secrets
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend import residues
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.residues import LIMB_BITS, Integers
from tests.backend.exact import chi_square, integers_of, least, of_size, residues_of

CHAINS = [distinct_ntt_primes(bits, 1024)
          for bits in ([17], [60], [60, 60], [45, 30, 34], [17, 60, 21, 59], [60] * 6)]  # fmt: skip
chains = st.sampled_from(CHAINS)

LIMB = 1 << LIMB_BITS


def edges() -> st.SearchStrategy[int]:
    """Integers beside the ends of limbs, and halfway between."""
    ends = st.sampled_from([0, 1, LIMB // 2, LIMB, LIMB**2 // 2, LIMB**2, LIMB**3])
    return st.builds(lambda end, more, sign: sign * (end + more), ends, st.integers(-2, 2), st.sampled_from([-1, 1]))


class TestOfValues:
    @given(
        st.lists(st.floats(-(2.0**200), 2.0**200, allow_nan=False), min_size=1, max_size=6),
        st.integers(-60, 140),
    )
    def test_they_are_the_integers_closest_to_the_exact_products(self, values: list[float], bits: int) -> None:
        expected = [round(Fraction(value) * Fraction(2) ** bits) for value in values]
        assert Integers.of_values(np.array(values), 2.0**bits).exact() == expected

    @given(st.lists(edges(), min_size=1, max_size=6), st.sampled_from([0, 1, 30, 90]))
    def test_ends_of_limbs_and_halves_are_no_exception(self, halves: list[int], bits: int) -> None:
        """Halves are rounded to even integers, as Python's Fraction is."""
        values = np.array([float(half) / 2 for half in halves]) / 2.0**bits
        expected = [round(Fraction(value) * 2**bits) for value in values]
        assert Integers.of_values(values, 2.0**bits).exact() == expected

    @given(st.floats(-(2.0**900), 2.0**900, allow_nan=False))
    def test_limbs_are_int64_and_no_more_than_needed(self, value: float) -> None:
        integers = Integers.of_values(np.array([value, 0.25]), 1.0)
        assert integers.limbs.dtype == np.int64
        assert np.max(np.abs(integers.limbs)) <= LIMB
        assert len(integers.limbs) <= 1 + abs(round(value)).bit_length() // LIMB_BITS


class TestIntegers:
    @given(
        st.lists(st.integers(1 - 2**62, 2**62 - 1), min_size=4, max_size=4),
        st.lists(st.integers(1 - 2**62, 2**62 - 1), min_size=2, max_size=2),
    )
    def test_sums_of_different_length(self, four: list[int], two: list[int]) -> None:
        left, right = Integers(np.array(four).reshape(2, 2)), Integers(np.array(two).reshape(1, 2))
        expected = [four[0] + LIMB * four[2] + two[0], four[1] + LIMB * four[3] + two[1]]
        assert left.plus(right).exact() == right.plus(left).exact() == expected

    @given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=6, max_size=6), chains)
    def test_residues_are_those_of_the_integers_whatever_the_signs(self, limbs: list[int], chain: tuple[int]) -> None:
        integers = Integers(np.array(limbs).reshape(3, 2))
        found = integers.residues(chain)
        assert found.dtype == np.uint64
        assert np.array_equal(found, residues_of(integers.exact(), chain))


class TestValuesOf:
    @given(st.data(), chains)
    def test_they_are_the_representatives_of_least_size_to_the_last_bits(
        self, data: st.DataObject, chain: tuple[int]
    ) -> None:
        modulus = math.prod(chain)
        integers = data.draw(of_size(modulus, 8))
        found = residues.values_of(residues_of(integers, chain), chain, 2.0**20)
        for value, integer in zip(found, least(integers, modulus), strict=True):
            assert abs(Fraction(value) * 2**20 - integer) <= abs(Fraction(integer, 2**50))

    @given(st.lists(st.integers(-(2**53), 2**53), min_size=8, max_size=8), chains)
    def test_small_ones_are_exact_however_large_the_modulus(self, integers: list[int], chain: tuple[int]) -> None:
        half = math.prod(chain) // 2
        fitting = [each % min(half, 2**53) * (-1) ** k for k, each in enumerate(integers)]
        assert residues.values_of(residues_of(fitting, chain), chain, 1.0).tolist() == fitting

    @given(
        st.lists(st.floats(-1, 1, allow_nan=False), min_size=8, max_size=8),
        st.integers(10, 60),
        st.sampled_from([chain for chain in CHAINS if math.prod(chain) > 2**62]),
    )
    def test_values_come_back_as_they_were_rounded(
        self, values: list[float], bits: int, chain: tuple[int, ...]
    ) -> None:
        array = np.array(values)
        found = residues.values_of(Integers.of_values(array, 2.0**bits).residues(chain), chain, 2.0**bits)
        assert np.max(np.abs(found - array)) <= 2.0 ** (-bits - 1) + 2.0**-51


class TestPolynomials:
    @given(st.data(), chains, st.integers(-(2**200), 2**200))
    def test_multiples_and_negatives(self, data: st.DataObject, chain: tuple[int], factor: int) -> None:
        modulus = math.prod(chain)
        some = data.draw(of_size(modulus, 8))
        array = residues_of(some, chain)
        assert integers_of(residues.times(array, factor, chain), chain) == [each * factor % modulus for each in some]
        assert integers_of(residues.negative(array, chain), chain) == [-each % modulus for each in some]


class TestUniform:
    COUNT = 1 << 14

    @pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(str(p.bit_length()) for p in chain))
    def test_they_are_uniform_modulo_each_prime_and_modulo_their_product(self, chain: tuple[int, ...]) -> None:
        drawn = residues.uniform(chain, self.COUNT)
        assert drawn.shape == (len(chain), self.COUNT)
        assert drawn.dtype == np.uint64
        modulus = math.prod(chain)
        for row, prime in zip(drawn, chain, strict=True):
            assert row.max() < prime
            assert chi_square(row.astype(np.float64) / prime) < 8
        shares = np.array([each / modulus for each in integers_of(drawn, chain)])
        assert chi_square(np.minimum(shares, 1 - 2.0**-53)) < 8

    def test_low_bits_are_uniform_too(self) -> None:
        (row,) = residues.uniform(CHAINS[1], self.COUNT)
        for bit in range(59):
            assert abs(float(np.mean(row >> np.uint64(bit) & np.uint64(1))) - 0.5) < 5 / 2 / math.sqrt(self.COUNT)

    def test_each_draw_and_each_prime_is_another(self) -> None:
        first, second = (residues.uniform(CHAINS[2], 256) for _ in range(2))
        assert len({row.tobytes() for row in (*first, *second)}) == 4

    def test_words_beyond_the_last_multiple_of_a_prime_are_drawn_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else the residues that they fall on would be likelier than the others."""
        prime = 3 << 60 | 1  # whatever it is: 2^64 holds five multiples of it, and a third of one
        last = (1 << 64) // prime * prime - 1
        words = iter([[last, last + 1, (1 << 64) - 1], [last + 7, 5], [6]])

        def tokens(size: int) -> bytes:
            drawn: NDArray[np.uint64] = np.array(next(words), dtype=np.uint64)
            assert size == drawn.nbytes
            return drawn.tobytes()

        monkeypatch.setattr(secrets, "token_bytes", tokens)
        assert residues.uniform([prime], 3).tolist() == [[last % prime, 6, 5]]

    def test_all_randomness_is_the_operating_systems(self, monkeypatch: pytest.MonkeyPatch) -> None:
        np.random.seed(0)
        first = residues.uniform(CHAINS[2], 64)
        np.random.seed(0)
        assert not np.array_equal(first, residues.uniform(CHAINS[2], 64))
        monkeypatch.setattr(secrets, "token_bytes", lambda size: bytes(i % 251 for i in range(size)))
        assert np.array_equal(residues.uniform(CHAINS[2], 64), residues.uniform(CHAINS[2], 64))
