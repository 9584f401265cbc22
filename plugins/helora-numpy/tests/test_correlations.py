"""What plans that run ahead of time need, emulated: the arithmetic against Python's integers, and refusals."""

from __future__ import annotations

import math
import secrets
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.correlations import SupportsCorrelations, Switching
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import NumPyBackend
from helora_numpy.mixed import Mixed
from helora_numpy.packed import pack, unpack

BACKEND = NumPyBackend()
SMALL, LARGE = (
    BACKEND.resolve(CKKSParams(ring_degree=n, data_bits=bits, special_bits=(), scale_bits=20, wrap_bits=64))
    for n, bits in ((4096, (41,)), (8192, (42, 42)))
)
TRIM, EXACT = Switching(24, 36), Switching(64, 64, exact=True)
NONCES = secrets.token_bytes(64)
SEED = bytes(32)
RNG = np.random.default_rng(5)
DOWN, UP = RNG.integers(-(2**14), 2**14, (2, 5)), RNG.integers(-(2**14), 2**14, (3, 2))


def words(*shape: int) -> Any:
    return RNG.integers(0, 2**64, shape, dtype=np.uint64)


def batch(params: CKKSParams, numbers: Any) -> tuple[Any, Any]:
    """A key, and sums DOWN·numbers under it."""
    key = BACKEND.batch_key(params, NONCES)
    sums = BACKEND.batch_sums(params, key.public_key, NONCES, len(DOWN))
    sums.add(key.encrypt(numbers), DOWN)
    return key, sums


def expected(numbers: Any, masks: Any) -> Any:
    """W·m − mask modulo 2^64."""
    return UP.astype(np.uint64) @ (DOWN.astype(np.uint64) @ numbers) - masks


def test_the_backend_offers_all_of_it() -> None:
    assert isinstance(BACKEND, SupportsCorrelations)
    assert BACKEND.capabilities.correlations
    assert (SMALL.data_modulus_bits, LARGE.modulus_bits) == (105, 148)


def test_exact_mode_is_exact_with_two_primes() -> None:
    numbers, masks = words(5, 8192), words(3, 8192)
    key, sums = batch(LARGE, numbers)
    found = key.decrypt(sums.results(UP, masks, SEED, EXACT), 3, EXACT)
    assert np.array_equal(found, expected(numbers, masks))
    with pytest.raises(ValueError, match="one prime"):
        batch(SMALL, words(5, 4096))[1].results(UP, masks[:, :4096], SEED, EXACT)


@pytest.mark.parametrize("params", [SMALL, LARGE], ids=lambda params: params.ring_degree)
def test_trim_mode_keeps_the_top_bits_and_loses_half_a_unit_on_average(params: CKKSParams) -> None:
    numbers, masks = words(5, params.ring_degree), words(3, params.ring_degree)
    key, sums = batch(params, numbers)
    found = key.decrypt(sums.results(UP, masks, SEED, TRIM), 3, TRIM)
    assert int(found.max()) < 2**24
    errors = ((found << np.uint64(40)) - expected(numbers, masks)).astype(np.int64) / 2.0**40
    assert np.abs(errors).max() < 2
    assert np.mean(errors) == pytest.approx(-0.5, abs=0.02)


def test_a_key_as_short_as_the_sum_costs_its_rounding_times_a_ternary_key() -> None:
    """36 bits of G are enough for 24 of the sum. With 24, the error is that of a ternary key, not of a power of x."""
    numbers, masks, short = words(5, 4096), words(3, 4096), Switching(24, 24)
    key, sums = batch(SMALL, numbers)
    found = key.decrypt(sums.results(UP, masks, SEED, short), 3, short)
    errors = ((found << np.uint64(40)) - expected(numbers, masks)).astype(np.int64) / 2.0**40
    assert np.std(errors) == pytest.approx(math.sqrt(4096 * 2 / 3 / 12), rel=0.05)


def test_the_errors_of_encryption_have_the_size_of_the_real_ones() -> None:
    """Sums with weights beyond q₁ bring them to the surface."""
    key, pairs, weight = BACKEND.batch_key(SMALL, NONCES), 2, 1 << 22
    sums = BACKEND.batch_sums(SMALL, key.public_key, NONCES, pairs)
    for row in range(pairs):
        sent, one = key.encrypt(np.zeros((1, 4096), dtype=np.uint64)), np.zeros((pairs, 1), dtype=np.int64)
        one[row] = weight
        for _ in range(64):
            sums.add(sent, one)
    whole, prime = Switching(64, 64), SMALL.data_primes[0]
    masks = np.zeros((pairs, 4096), dtype=np.uint64)
    found = key.decrypt(sums.results(np.eye(pairs, dtype=np.int64) * weight, masks, SEED, whole), pairs, whole)
    errors = np.rint(found.astype(np.int64) * (prime / (64 * weight**2))).astype(int)
    assert np.std(errors) == pytest.approx(math.sqrt(10.5), rel=0.05)
    assert abs(np.corrcoef(errors)[0, 1]) < 0.1


def test_results_depend_on_the_seed_alone_and_on_all_of_it() -> None:
    for params, how in ((SMALL, TRIM), (LARGE, EXACT)):
        _, sums = batch(params, words(5, params.ring_degree))
        masks = words(3, params.ring_degree)
        first = sums.results(UP, masks, SEED, how)
        assert sums.results(UP, masks, SEED, how) == first
        other = np.frombuffer(sums.results(UP, masks, SEED[1:] + b"1", how), dtype=np.uint8)
        assert 0.49 < np.unpackbits(np.frombuffer(first, dtype=np.uint8) ^ other).mean() < 0.51


def test_a_seed_is_refused_for_another_matrix_mask_or_upload() -> None:
    key, sums = batch(SMALL, words(5, 4096))
    masks = words(3, 4096)
    sums.results(UP, masks, SEED, TRIM)
    for matrix, others in ((-UP, masks), (UP, masks + np.uint64(1))):
        with pytest.raises(ValueError, match="a seed that was used"):
            sums.results(matrix, others, SEED, TRIM)
    sums.add(key.encrypt(words(5, 4096)), DOWN)
    with pytest.raises(ValueError, match="a seed that was used"):
        sums.results(UP, masks, SEED, TRIM)


def test_an_erased_key_does_nothing_more() -> None:
    key, sums = batch(SMALL, words(5, 4096))
    payload = sums.results(UP, words(3, 4096), SEED, TRIM)
    key.erase()
    with pytest.raises(ValueError, match="erased"):
        key.encrypt(words(5, 4096))
    with pytest.raises(ValueError, match="erased"):
        key.decrypt(payload, 3, TRIM)


def test_a_public_key_belongs_to_its_nonces() -> None:
    key = BACKEND.batch_key(SMALL, NONCES)
    for nonces, public_key in (
        (NONCES[::-1], key.public_key),
        (NONCES, key.public_key[:-1]),
        (NONCES[1:], key.public_key),
    ):
        with pytest.raises(ValueError, match=r"nonces|bytes"):
            BACKEND.batch_sums(SMALL, public_key, nonces, 2)


@pytest.mark.parametrize(
    "damage", [lambda sent: sent[:-1], lambda sent: sent + b"\0", lambda sent: b"\xff" * len(sent)]
)
def test_uploads_that_are_none_change_nothing(damage: Any) -> None:
    numbers, masks = words(5, 8192), words(3, 8192)
    key, sums = batch(LARGE, numbers)
    with pytest.raises(ValueError, match=r"bytes|no ciphertexts"):
        sums.add(damage(key.encrypt(words(5, 8192))), DOWN)
    assert np.array_equal(key.decrypt(sums.results(UP, masks, SEED, EXACT), 3, EXACT), expected(numbers, masks))


def test_answers_are_exact_modulo_the_word() -> None:
    weights = BACKEND.online_weights([DOWN, UP])
    y, masks = words(4, 5), words(4, 3)
    for bits in (1, 24, 64):
        found = BACKEND.unpack(weights.answer(y.tobytes(), masks, bits), masks.size, bits).reshape(masks.shape)
        for token in range(4):
            z = [sum(int(w) * int(v) for w, v in zip(row, y[token], strict=True)) for row in DOWN]
            for o in range(3):
                whole = sum(int(w) * v for w, v in zip(UP[o], z, strict=True)) + int(masks[token, o])
                assert int(found[token, o]) == whole % 2**64 >> (64 - bits)


@given(st.integers(1, 64), st.lists(st.integers(0, 2**64 - 1), max_size=200))
def test_packed_numbers_are_their_bits_one_after_another(bits: int, some: list[int]) -> None:
    numbers = [number % 2**bits for number in some]
    packed = pack(np.array(numbers, dtype=np.uint64), bits)
    whole = sum(number << (bits * i) for i, number in enumerate(numbers))
    assert packed == whole.to_bytes((len(numbers) * bits + 7) // 8, "little")
    assert unpack(packed, len(numbers), bits).tolist() == numbers


def test_packing_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="more than 7 bits"):
        pack(np.array([128], dtype=np.uint64), 7)
    for payload in (b"", b"\0\0", b"\x80"):
        with pytest.raises(ValueError, match=r"bytes|bits after"):
            unpack(payload, 1, 7)


@given(st.lists(st.integers(-(2**23) + 1, 2**23 - 1), min_size=6, max_size=6), st.integers(1, 700))
def test_products_and_quotients_are_exact(some: list[int], count: int) -> None:
    primes = LARGE.data_primes
    q1 = math.prod(primes)
    rng = np.random.default_rng(count)
    polynomials = Mixed.uniform(rng, (count, 4), primes)
    for row in polynomials.residues:
        row[0] = primes[0] - 1 if row is polynomials.residues[0] else primes[1] - 1
    matrix = np.resize(np.array(some, dtype=np.int64), (2, count))
    found = polynomials.combined(matrix)
    quotient, left = found.divided()
    step = q1 * pow(q1, -1, 2**64)
    for i in range(2):
        for j in range(4):
            parts = zip(polynomials.words[:, j], *(row[:, j] for row in polynomials.residues), strict=True)
            total = sum(int(w) * lifted(*map(int, part), step, q1) for w, part in zip(matrix[i], parts, strict=True))
            total %= q1 << 64
            assert int(quotient[i, j]) == total // q1
            assert int(left[i, j]) == total % q1 // primes[1]


@pytest.mark.parametrize("count", [4096, 4097, 11008])
def test_long_sums_of_the_largest_numbers_do_not_overflow(count: int) -> None:
    primes, weight = LARGE.data_primes, 2**23 - 1
    minus_one = Mixed.of_integers(np.full((count, 4), -1, dtype=np.int64), primes)
    assert int(minus_one.words.min()) == 2**64 - 1
    found = minus_one.combined(np.stack([np.full(count, weight), np.full(count, -weight)]))
    for row, sign in enumerate((-1, 1)):
        assert set(found.words[row].tolist()) == {sign * count * weight % 2**64}
        for residues, prime in zip(found.residues, primes, strict=True):
            assert set(residues[row].tolist()) == {sign * count * weight % prime}


def lifted(word: int, first: int, second: int, step: int, q1: int) -> int:
    """The number modulo 2^64·q₁ with this word and these residues."""
    p0, p1 = LARGE.data_primes
    below = (first * p1 * pow(p1, -1, p0) + second * p0 * pow(p0, -1, p1)) % q1
    return (below + step * (word - below)) % (q1 << 64)


@pytest.mark.parametrize("params", [SMALL, LARGE], ids=lambda params: params.ring_degree)
def test_the_flood_is_uniform_over_half_of_q1(params: CKKSParams) -> None:
    q1 = math.prod(params.data_primes)
    flood = Mixed.flood(np.random.default_rng(3), (1, 20_000), params.data_primes)
    shifted = flood.plus(Mixed.of_integers(np.zeros((1, 20_000), dtype=np.int64), params.data_primes))
    words_, left = shifted.divided()
    p0 = params.data_primes[0]
    values = (left / p0 + words_.astype(np.int64)).reshape(-1)  # in units of q₁
    assert set(words_.reshape(-1).tolist()) == {0, 2**64 - 1}
    assert np.abs(values).max() <= 0.25
    counts, _ = np.histogram(values, bins=64, range=(-0.25, 0.25))
    assert np.sum((counts - 20_000 / 64) ** 2 / (20_000 / 64)) < 63 + 6 * math.sqrt(2 * 63)
    assert q1.bit_length() in (41, 84)
