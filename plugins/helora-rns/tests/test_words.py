"""Kernels for words: every kernel set against the reference, bit for bit, and that against Python's integers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend.correlations import Cut
from helora_core.backend.primes import distinct_ntt_primes
from helora_rns import choice
from helora_rns.arrays import aligned_copy, doubles, residues
from helora_rns.compiled import SETS, CompiledKernels
from helora_rns.correlations import wire
from helora_rns.correlations.compiled import CompiledWords
from helora_rns.correlations.kernels import Results, Secret, WordKernels, packed_bytes
from helora_rns.correlations.online import CompiledOnline, CompiledOnlineWeights, NumPyOnline, NumPyOnlineWeights
from helora_rns.correlations.reference import NumPyWords
from helora_rns.correlations.ring import WRAP, WordRing
from helora_rns.modular import Residues
from helora_rns.reference import NumPyKernels

Words = NDArray[np.uint64]

N = 1024
MOST_WORD = WRAP - 1
EDGES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, MOST_WORD)
CHAINS = ((42, 42), (41,), (47, 48), (37,))
COMPILED = [name for name in choice.available() if name in SETS]


class Pair(NamedTuple):
    """One ring with two kernel sets on it."""

    ring: WordRing
    own: WordKernels
    reference: NumPyWords


def ring_of(bits: tuple[int, ...], n: int = N) -> WordRing:
    return WordRing(n, distinct_ntt_primes(bits, n))


RINGS = {bits: ring_of(bits) for bits in CHAINS}


@pytest.fixture(params=[(name, bits) for name in COMPILED for bits in CHAINS], ids=str)
def pair(request: pytest.FixtureRequest) -> Pair:
    name, bits = request.param
    ring = RINGS[bits]
    reference = NumPyWords(ring)
    reference._kernels = NumPyKernels(ring.ring_degree, ring.primes)
    return Pair(ring, CompiledWords(ring, CompiledKernels(name, ring.ring_degree, ring.primes)), reference)


def words(seed: int, *shape: int) -> Words:
    """Random, with the ones at the edges among them."""
    out = residues(shape)
    out[...] = np.random.default_rng(seed).integers(0, MOST_WORD, shape, dtype=np.uint64, endpoint=True)
    out.reshape(-1)[: len(EDGES)] = EDGES
    return out


def zeros(*shape: int) -> Words:
    return aligned_copy(np.zeros(shape, dtype=np.uint64))


def values(ring: WordRing, seed: int, *shape: int) -> Residues:
    """Residues modulo the primes of q₁, (…, limbs, N), the least and the largest among them."""
    rng, out = np.random.default_rng(seed), residues((*shape, len(ring.limbs), ring.ring_degree))
    for i in ring.limbs:
        q = ring.primes[i]
        out[..., i, :] = rng.integers(0, q, out[..., i, :].shape, dtype=np.uint64)
        out[..., i, :4] = 0, 1, q - 1, q // 2
    return out


def ternary(seed: int, n: int = N) -> NDArray[np.float64]:
    out = doubles((n,))
    out[...] = np.random.default_rng(seed).integers(-1, 2, n)
    return out


def secret(ring: WordRing, s: NDArray[np.float64]) -> Secret:
    kernels, whole = ring.kernels, ring.context.whole
    return Secret(kernels.negate(kernels.values_of_doubles(s, whole), whole), int(np.count_nonzero(s)))


def negacyclic(a: Words, u: NDArray[np.float64], places: tuple[int, ...]) -> dict[int, int]:
    """Some coefficients of the product of signed words and small integers, over the integers."""
    signed, small, n = a.view(np.int64).tolist(), u.astype(int).tolist(), len(a)
    return {
        j: sum(x * signed[j - i if i <= j else j - i + n] * (1 if i <= j else -1) for i, x in enumerate(small) if x)
        for j in places
    }


class TestReference:
    """Against Python's integers."""

    @pytest.mark.parametrize("bits", CHAINS)
    @pytest.mark.parametrize("number", [None, 2**63, 2**63 - 1])
    def test_products_with_the_secret(self, bits: tuple[int, ...], number: int | None) -> None:
        ring = RINGS[bits]
        s = ternary(1)
        if number is not None:
            s[:] = 1.0  # the largest sums
        g = words(2, N) if number is None else np.full(N, number, dtype=np.uint64)
        packed = np.concatenate([np.zeros(N, np.uint64), g])
        results = Results(memoryview(packed).cast("B"), 1, packed.nbytes)
        found = NumPyWords(ring).opened(results, secret(ring, s), zeros(N), 64, 64)[0]
        for j, expected in negacyclic(g, s, (0, 1, N // 2, N - 1)).items():
            assert int(found[j]) == expected % WRAP

    @pytest.mark.parametrize("bits", CHAINS)
    def test_quotients(self, bits: tuple[int, ...]) -> None:
        ring, rng = RINGS[bits], np.random.default_rng(3)
        q = WRAP * ring.q1
        edges = [0, 1, ring.q1 - 1, ring.q1, q - 1, q - ring.q1, q // 2]
        numbers = edges + [int.from_bytes(rng.bytes(24), "little") % q for _ in range(N - len(edges))]
        own = np.array([number % WRAP for number in numbers], dtype=np.uint64)
        rows = np.array([[number % ring.primes[i] for number in numbers] for i in ring.limbs], dtype=np.uint64)
        mask = words(4, N)
        found = NumPyWords(ring).quotient(own, rows, mask, 27)
        for c, m, h in zip(numbers, mask.tolist(), found.tolist(), strict=True):
            assert h == ((c // ring.q1 - m) % WRAP) >> 37


class TestCompiled:
    """Against the reference."""

    @pytest.mark.parametrize(("rows", "terms"), [(1, 1), (3, 5), (7, 300), (16, 33)])
    def test_sums(self, pair: Pair, rows: int, terms: int) -> None:
        rng, a = np.random.default_rng(rows), words(5, terms, 200)
        weights = rng.integers(-(2**23) + 1, 2**23, (rows, terms))
        weights[0], weights[-1:] = 2**23 - 1, -(2**23) + 1
        for add in (False, True):
            out = words(6, rows, 200)
            expected = aligned_copy(out)
            pair.own.gemm(weights, a, out, add=add)
            pair.reference.gemm(weights, a, expected, add=add)
            assert (out == expected).all()

    @pytest.mark.parametrize("terms", [4097, 11008])
    @pytest.mark.parametrize("number", [MOST_WORD, 2**31, 2**31 - 1, 2**63])
    def test_long_sums_of_the_largest(self, pair: Pair, terms: int, number: int) -> None:
        a, out = residues((terms, 8)), residues((2, 8))
        a.fill(number)
        weights = np.array([[2**23 - 1], [-(2**23) + 1]]).repeat(terms, axis=1)
        pair.own.gemm(weights, a, out, add=False)
        for row, w in zip(out, (2**23 - 1, -(2**23) + 1), strict=True):
            assert row.tolist() == [w * number * terms % WRAP] * 8

    def test_encryption(self, pair: Pair) -> None:
        minus, a = secret(pair.ring, ternary(7)), (words(8, N), values(pair.ring, 9))
        size = wire.polynomial_bytes(pair.ring)
        found, expected = (np.full(size, 255, dtype=np.uint8) for _ in range(2))
        for out, kernels in ((found, pair.own), (expected, pair.reference)):
            kernels.encrypted(a, words(10, N), words(11, N), minus, out)
        assert (found == expected).all()
        for kernels in (pair.own, pair.reference):
            back = residues((N,)), residues((len(pair.ring.limbs), N))
            assert kernels.unpacked(found.data, *back)
            found[-8:] = 255
            assert not kernels.unpacked(found.data, *back)
            found[...] = expected

    @pytest.mark.parametrize("number", [None, 2**63, 2**63 - 1])
    def test_results(self, pair: Pair, number: int | None) -> None:
        """With errors and without: the same, unless it is said that they could matter."""
        ring, n = pair.ring, N
        key_words, sums = words(12, 2, n), (words(13, 2, n), values(ring, 14, 2))
        if number is not None:
            key_words.fill(number)
        key_values, taken = values(ring, 15, 2), 0
        keys = pair.own.public(key_words, key_values), pair.reference.public(key_words, key_values)
        for seed in range(12):
            u, mask, bits = ternary(seed), words(seed + 100, n), (27, 64)
            clean = [
                kernels.randomised(sums, key, u, words(seed + 200, 2 * n))
                for kernels, key in zip((pair.own, pair.reference), keys, strict=True)
            ]
            for mine, theirs in zip(*clean, strict=True):
                assert (mine == theirs).all()
            own, rows = clean[0]
            quotients = [
                [kernels.quotient(own[0], rows[0], mask, bits[0]), kernels.quotient(own[1], rows[1], None, bits[1])]
                for kernels in (pair.own, pair.reference)
            ]
            assert all((mine == theirs).all() for mine, theirs in zip(*quotients, strict=True))
            out = np.empty(sum(packed_bytes(n, length) for length in bits), dtype=np.uint8)
            if pair.own.trimmed(sums, keys[0], u, mask, bits, out):
                taken += 1
                expected = b"".join(
                    ring.kernels.pack(row, length) for row, length in zip(quotients[0], bits, strict=True)
                )
                assert out.tobytes() == expected
        assert taken >= 11

    @pytest.mark.parametrize("offset", [-22, -21, -1, 0, 1, 20, 21, 22])
    def test_a_sum_next_to_a_multiple_of_q1_needs_its_errors(self, pair: Pair, offset: int) -> None:
        """Of sums that make one coefficient just that, by an amount that errors do or do not bridge."""
        ring, kernels, n = pair.ring, pair.ring.kernels, N
        key_words, key_values, u = words(16, 2, n), values(ring, 17, 2), ternary(18)
        key = pair.own.public(key_words, key_values)
        nothing = zeros(2, n), zeros(2, len(ring.limbs), n)
        _, rows = pair.reference.randomised(nothing, pair.reference.public(key_words, key_values), u, zeros(2 * n))
        q = np.array([ring.primes[i] for i in ring.limbs], dtype=np.uint64)[:, np.newaxis]
        wanted = np.full((len(ring.limbs), n), 5, dtype=np.uint64) * (q // np.uint64(11))
        wanted[:, 77] = [offset % ring.primes[i] for i in ring.limbs]
        sums = nothing[0], nothing[1]
        sums[1][0] = (wanted + q - rows[0]) % q
        kernels.forward(sums[1], ring.limbs)
        out = np.empty(2 * packed_bytes(n, 64), dtype=np.uint8)
        said = pair.own.trimmed(sums, key, u, zeros(n), (64, 64), out)
        if -22 < offset < 21:
            assert not said

    @pytest.mark.parametrize("key_bits", [1, 20, 38, 39, 64])
    def test_opening(self, pair: Pair, key_bits: int) -> None:
        """On both sides of what the auxiliary prime holds, and at the largest."""
        ring, count, top_bits = pair.ring, 2, 27
        one = packed_bytes(N, top_bits) + packed_bytes(N, key_bits)
        payload = np.random.default_rng(19).integers(0, 256, count * (one + 3), dtype=np.uint8)
        payload[-one:] = 255
        results = Results(payload.data, count, one + 3)
        s = ternary(20)
        s[:600] = 1.0
        minus, added = secret(ring, s), words(21, N)
        found, expected = (
            kernels.opened(results, minus, added, top_bits, key_bits) for kernels in (pair.own, pair.reference)
        )
        assert (found == expected).all()


@pytest.mark.parametrize("name", COMPILED)
class TestOnline:
    @given(
        shape=st.lists(st.integers(1, 40), min_size=2, max_size=4),
        tokens=st.integers(1, 35),
        bits=st.integers(1, 64),
        seed=st.integers(0, 2**32),
    )
    @settings(max_examples=40, deadline=None)
    def test_all_shapes(self, name: str, shape: list[int], tokens: int, bits: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        matrices = [rng.integers(-(2**23) + 1, 2**23, (rows, terms)) for terms, rows in pairwise(shape)]
        y, masks = (
            words(seed, tokens + 10, shape[0])[:tokens].tobytes(),
            words(seed + 1, tokens + 10, shape[-1])[:tokens],
        )
        expected = NumPyOnlineWeights(matrices).answer(y, masks, bits)
        assert CompiledOnlineWeights(name, matrices).answer(y, masks, bits) == expected

    @pytest.mark.parametrize("terms", [4097, 11008])
    def test_long_sums_of_the_largest(self, name: str, terms: int) -> None:
        down, up = np.full((2, terms), 2**23 - 1), np.array([[2**23 - 1, -(2**23) + 1], [-1, 0]])
        masks = np.array([[5, 7]], dtype=np.uint64)
        z = -terms * (2**23 - 1)
        found = CompiledOnlineWeights(name, [down, up]).answer(b"\xff" * 8 * terms, masks, 64)
        assert np.frombuffer(found, dtype="<u8").tolist() == [5, (7 - z) % WRAP]


WORD = st.one_of(st.integers(0, MOST_WORD), st.sampled_from(EDGES))
NUMBER = st.one_of(
    st.floats(-(2.0**50), 2.0**50), st.integers(-(2**51), 2**51 - 1).map(lambda number: number / 2), st.just(-0.0)
)


@pytest.mark.skipif(not COMPILED, reason="no compiled kernels")
class TestOnlineClient:
    @given(data=st.data(), exponent=st.integers(-900, 900), tokens=st.integers(1, 3), inputs=st.integers(1, 40))
    @settings(deadline=None)
    def test_pads(self, data: st.DataObject, exponent: int, tokens: int, inputs: int) -> None:
        """Against NumPy, and Python's integers: ties to even."""
        numbers = data.draw(st.lists(NUMBER, min_size=inputs, max_size=inputs))
        x = np.ldexp(np.array([numbers] * tokens), -exponent)
        factors = np.full(tokens, 2.0**exponent)
        row = data.draw(st.lists(WORD, min_size=inputs, max_size=inputs))
        pads = np.array([row] * tokens, dtype=np.uint64)
        found = CompiledOnline().padded(x, factors, pads)
        assert found == NumPyOnline().padded(x, factors, pads)
        expected = [
            (round(number) - pad) % WRAP for number, pad in zip(np.ldexp(x[0], exponent).tolist(), row, strict=True)
        ]
        assert np.frombuffer(found, dtype="<u8").reshape(x.shape).tolist() == [expected] * tokens

    @pytest.mark.parametrize("inputs", [4097, 11008])
    def test_long_rows_of_the_largest(self, inputs: int) -> None:
        x, pads = np.full((2, inputs), 2.0**51 - 1), np.full((2, inputs), MOST_WORD, dtype=np.uint64)
        x[1] *= -1
        found = np.frombuffer(CompiledOnline().padded(x, np.ones(2), pads), dtype="<u8").reshape(2, inputs)
        assert (found[0] == 2**51).all()
        assert (found[1] == WRAP - 2**51 + 2).all()

    @given(
        seed=st.integers(0, 2**32),
        tokens=st.integers(1, 20),
        outputs=st.one_of(st.integers(1, 70), st.sampled_from([1023, 1024, 1025, 2100])),
        bits=st.tuples(st.integers(1, 64), st.integers(1, 64)),
        exponent=st.integers(-900, 900),
    )
    @settings(deadline=None)
    def test_what_is_revealed(self, seed: int, tokens: int, outputs: int, bits: tuple[int, int], exponent: int) -> None:
        """Against NumPy, and Python's integers: in the middle of their units, signed, rounded once."""
        cut, kernels = Cut(*bits), NumPyKernels(64, distinct_ntt_primes((30,), 64))
        tops = [words(seed + i, tokens, max(outputs, len(EDGES)))[:, :outputs] >> np.uint64(64 - each)
                for i, each in enumerate(bits)]  # fmt: skip
        answers = kernels.pack(np.ascontiguousarray(tops[0]), bits[0])
        results = b"".join(kernels.pack(np.ascontiguousarray(row), bits[1]) for row in tops[1])
        factors = np.ldexp(1.0, exponent + np.arange(tokens))
        found = CompiledOnline().revealed(answers, results, cut, factors, outputs)
        assert found.tobytes() == NumPyOnline().revealed(answers, results, cut, factors, outputs).tobytes()
        for t, o in ((0, 0), (tokens - 1, outputs - 1)):
            whole = sum(
                (2 * int(top[t, o]) + (each < 64)) << 64 - each >> 1 for top, each in zip(tops, bits, strict=True)
            )
            signed = (whole + 2**63) % WRAP - 2**63
            assert found[t, o] == math.ldexp(signed, exponent + t)


def test_the_margin_is_that_of_random_sums() -> None:
    """What a sum of N words at their largest, each times −1, 0 or 1 at random, exceeds with a chance of 2e^(−98)."""
    ring = ring_of((42, 42), 8192)
    key = CompiledWords(ring, ring.kernels).public(words(25, 2, 8192), values(ring, 26, 2)) if COMPILED else None
    if key is None or not isinstance(ring.kernels, CompiledKernels):
        pytest.skip("no compiled kernels")
    margin = int(key.own.table[-1]) * ring.primes[0]
    deviations = margin / (2.0**63 * math.sqrt(8192))
    assert 14 <= deviations < 14.01
    assert margin < ring.q1 // 256
