from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.primes import distinct_ntt_primes, is_prime


def test_small_numbers_are_sieved_right() -> None:
    limit = 20000
    sieve = [False, False] + [True] * (limit - 2)
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = [False] * len(sieve[number * number :: number])
    assert [is_prime(number) for number in range(limit)] == sieve


# Strong pseudoprimes to the first bases: the least to base 2, to bases 2 … 7, 2 … 23 and 2 … 37 (OEIS A014233).
@pytest.mark.parametrize("number", [2047, 3215031751, 3825123056546413051, 318665857834031151167461, 561, 2**61 + 1])
def test_composites_that_fool_few_bases_are_composite(number: int) -> None:
    assert not is_prime(number)


@pytest.mark.parametrize("number", [2**31 - 1, 2**61 - 1, 2**59 - 55, 65537, 2])
def test_large_primes_are_prime(number: int) -> None:
    assert is_prime(number)


@given(
    bits=st.lists(st.integers(24, 60), min_size=1, max_size=6),
    ring_degree=st.sampled_from([1024, 4096, 16384]),
)
def test_primes_are_distinct_of_the_lengths_asked_for_and_1_mod_2n(bits: list[int], ring_degree: int) -> None:
    primes = distinct_ntt_primes(bits, ring_degree)
    assert len(set(primes)) == len(bits)
    for prime, length in zip(primes, bits, strict=True):
        assert is_prime(prime)
        assert prime.bit_length() == length
        assert prime % (2 * ring_degree) == 1


def test_where_there_are_too_few_the_length_is_named() -> None:
    assert distinct_ntt_primes([17], 32768) == (65537,)
    with pytest.raises(ValueError, match="17 bits"):
        distinct_ntt_primes([17, 17], 32768)
