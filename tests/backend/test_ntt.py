"""The transform against Python's integers: its order, its inverse, and that products of values multiply polynomials."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend import ntt
from helora_core.backend.primes import distinct_ntt_primes
from tests.backend.exact import negacyclic, of_size

BITS = range(17, 62)
"""Of parameters' primes, and one more, where the module's promise ends."""


@cache
def prime_of(bits: int, n: int = 1024) -> int:
    """The largest prime of so many bits that is 1 mod 2N."""
    primes = distinct_ntt_primes([bits], n)
    return primes[0]


def array(integers: list[int]) -> ntt.Residues:
    return np.array(integers, dtype=np.uint64)


primes = st.sampled_from(BITS).map(prime_of)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_value_i_is_at_the_smallest_root_to_the_power_of_twice_i_reversed_and_one(n: int) -> None:
    prime = prime_of(17)
    root = next(each for each in range(2, prime) if pow(each, n, prime) == prime - 1)
    coefficients = np.random.default_rng(n).integers(0, prime, n).tolist()
    values = ntt.forward(array(coefficients), prime).tolist()
    for i, value in enumerate(values):
        reverse = int(format(i, f"0{n.bit_length() - 1}b")[::-1], 2)
        point = pow(root, 2 * reverse + 1, prime)
        assert value == sum(each * pow(point, k, prime) for k, each in enumerate(coefficients)) % prime


@given(st.data(), primes, st.sampled_from([1, 2, 4, 32, 1024]))
def test_inverse_undoes_forward_and_forward_inverse(data: st.DataObject, prime: int, n: int) -> None:
    some = array(data.draw(of_size(prime, min(n, 32))) * (n // min(n, 32)))
    for there, back in ((ntt.forward, ntt.inverse), (ntt.inverse, ntt.forward)):
        between = there(some, prime)
        assert between.dtype == np.uint64
        assert between.max() < prime
        assert np.array_equal(back(between, prime), some)


@given(st.data(), primes, st.sampled_from([1, 2, 8, 16]))
def test_products_of_values_are_negacyclic_products_of_polynomials(data: st.DataObject, prime: int, n: int) -> None:
    left, right = data.draw(of_size(prime, n)), data.draw(of_size(prime, n))
    values = ntt.product(ntt.forward(array(left), prime), ntt.forward(array(right), prime), prime)
    assert ntt.inverse(values, prime).tolist() == negacyclic(left, right, prime)


@pytest.mark.parametrize("bits", BITS)
def test_the_largest_residues_do_not_overflow(bits: int) -> None:
    """All of them p − 1, which is −1: a sum of N products that are 1, with the signs of x^N = −1."""
    prime, n = prime_of(bits), 1024
    minus_ones = np.full(n, prime - 1, dtype=np.uint64)
    values = ntt.forward(minus_ones, prime)
    found = ntt.inverse(ntt.product(values, values, prime), prime).astype(object)
    assert found.tolist() == [(2 * (k + 1) - n) % prime for k in range(n)]


@given(st.data(), primes)
def test_product_is_place_by_place(data: st.DataObject, prime: int) -> None:
    left, right = data.draw(of_size(prime, 8)), data.draw(of_size(prime, 8))
    expected = [a * b % prime for a, b in zip(left, right, strict=True)]
    assert ntt.product(array(left), array(right), prime).tolist() == expected


@given(st.data(), primes, st.integers(-(2**130), 2**130))
def test_times_takes_any_integer_and_any_word(data: st.DataObject, prime: int, factor: int) -> None:
    words = data.draw(of_size(1 << 64, 8))
    assert ntt.times(array(words), factor, prime).tolist() == [word * factor % prime for word in words]


@given(st.data(), primes)
def test_several_polynomials_at_once_are_each_transformed_and_none_is_written_to(
    data: st.DataObject, prime: int
) -> None:
    both = np.stack([array(data.draw(of_size(prime, 8))) for _ in range(3)])
    for array_like in (both, np.asfortranarray(both), both[::-1]):
        before = array_like.copy()
        array_like.flags.writeable = False
        for transform in (ntt.forward, ntt.inverse):
            rows = [transform(row.copy(), prime) for row in array_like]
            assert np.array_equal(transform(array_like, prime), np.stack(rows))
        assert np.array_equal(array_like, before)
