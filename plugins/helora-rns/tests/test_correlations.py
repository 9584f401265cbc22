"""Batches from end to end: what the client decrypts is W·m − mask, within stated units or exactly, for all inputs.

Long, since one batch is followed through both parties.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend.correlations import NONCE_BYTES, SupportsCorrelations, Switching
from helora_core.errors import CorruptPayload, ForeignCiphertext, InvalidParameters, VersionMismatch
from helora_core.params.ckks import CKKSParams
from helora_rns import choice
from helora_rns.arrays import residues
from helora_rns.backend import RNSBackend
from helora_rns.correlations import ring as rings
from helora_rns.correlations import streams, wire
from helora_rns.correlations.keys import RNSBatchKey
from helora_rns.correlations.sums import RNSBatchSums
from helora_rns.scheme import context as contexts
from helora_rns.scheme.fields import HEADER_BYTES

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

BACKEND = RNSBackend()
NONCES, SEED = bytes(range(2 * NONCE_BYTES)), bytes(32)
TRIM, EXACT = Switching(27, 32), Switching(64, 64, exact=True)
FINE = Switching(40, 60)
"""Beyond what the auxiliary prime alone holds."""
MOST = 2**23 - 1
MOST_WORD = 2**64 - 1


def params(n: int = 1024, bits: tuple[int, ...] = (42, 42)) -> CKKSParams:
    """Resolved; N=1024 is no security at all, and fast."""
    return BACKEND.resolve(CKKSParams(ring_degree=n, data_bits=bits, special_bits=(), scale_bits=20, wrap_bits=64))


SMALL, REAL, SHORT = params(), params(8192), params(4096, (41,))


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch: a key, what was sent for it, and what it was made of."""

    key: RNSBatchKey
    sums: RNSBatchSums
    down: Integers
    numbers: Words

    @classmethod
    def of(cls, own: CKKSParams, down: Integers, numbers: Words) -> Batch:
        key = BACKEND.batch_key(own, NONCES)
        sums = BACKEND.batch_sums(own, key.public_key, NONCES, len(down))
        sums.add(key.encrypt(numbers), down)
        return cls(key, sums, down, numbers)

    def expected(self, up: Integers, masks: Words) -> Words:
        """W·m − mask modulo 2^64, by Python's integers."""
        whole = up.astype(object) @ self.down.astype(object) @ self.numbers.astype(object)
        found: Words = ((whole - masks.astype(object)) % 2**64).astype(np.uint64)
        return found


def words(rng: np.random.Generator, *shape: int) -> Words:
    return rng.integers(0, MOST_WORD, shape, dtype=np.uint64, endpoint=True)


def integers(rng: np.random.Generator, most: int, *shape: int) -> Integers:
    return rng.integers(-most, most + 1, shape)


def random_batch(own: CKKSParams, features: int = 5, rank: int = 3, seed: int = 1) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch.of(own, integers(rng, 2**19, rank, features), words(rng, features, own.ring_degree))


def units(found: Words, expected: Words, top_bits: int) -> NDArray[np.float64]:
    """By how many of its own units each result lies above W·m − mask."""
    lost = 64 - top_bits
    difference = (found << np.uint64(lost)) - expected
    return difference.view(np.int64) / 2.0**lost


@pytest.fixture(params=choice.available())
def kernel_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kernel set that new rings have."""
    made = (contexts.context, rings._made)
    monkeypatch.setenv(choice.VARIABLE, request.param)
    for cache in made:
        cache.cache_clear()
    yield request.param
    for cache in made:
        cache.cache_clear()


def test_the_backend_has_the_ability() -> None:
    assert isinstance(BACKEND, SupportsCorrelations)
    assert REAL.modulus_bits == 148
    assert SHORT.modulus_bits == 105


class TestResults:
    @pytest.mark.parametrize("how", [TRIM, FINE])
    @pytest.mark.parametrize("own", [REAL, SHORT], ids=["8192", "4096"])
    def test_trimmed_results_are_close(self, own: CKKSParams, how: Switching) -> None:
        batch, rng = random_batch(own), np.random.default_rng(2)
        up, masks = integers(rng, 2**14, 4, 3), words(rng, 4, own.ring_degree)
        found = batch.key.decrypt(batch.sums.results(up, masks, SEED, how), 4, how)
        assert int(found.max()) < 2**how.top_bits
        error = units(found, batch.expected(up, masks), how.top_bits)
        # Rounding down and to the nearest, a unit and a half at most; what G lacks has a deviation of 0.7 at N=8192.
        dropped = 2.0 ** (how.top_bits - how.key_bits) * (own.ring_degree * 2 / 3 / 12) ** 0.5
        assert np.abs(error).max() <= 1.5 + 7 * dropped

    def test_exact_results_are_exact(self) -> None:
        batch, rng = random_batch(REAL), np.random.default_rng(3)
        up, masks = integers(rng, 2**14, 3, 3), words(rng, 3, 8192)
        payload = batch.sums.results(up, masks, SEED, EXACT)
        assert (batch.key.decrypt(payload, 3, EXACT) == batch.expected(up, masks)).all()

    def test_exact_results_of_the_largest_numbers(self) -> None:
        n = SMALL.ring_degree
        down, up = np.full((2, 40), MOST), np.array([[MOST, MOST], [-MOST, -MOST], [MOST, -MOST]])
        batch = Batch.of(SMALL, down, np.full((40, n), MOST_WORD, dtype=np.uint64))
        for masks in (np.zeros((3, n), np.uint64), np.full((3, n), MOST_WORD, np.uint64)):
            payload = batch.sums.results(up, masks, SEED, EXACT)
            assert (batch.key.decrypt(payload, 3, EXACT) == batch.expected(up, masks)).all()

    @given(
        st.lists(st.lists(st.integers(-MOST, MOST), min_size=2, max_size=2), min_size=1, max_size=3),
        st.lists(st.integers(-MOST, MOST), min_size=2, max_size=2),
        st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**63 + 1, MOST_WORD]),
        st.integers(0, MOST_WORD),
    )
    @settings(max_examples=25, deadline=None)
    def test_all_numbers(self, columns: list[list[int]], row: list[int], number: int, mask: int) -> None:
        n = SMALL.ring_degree
        down, up = np.array(columns).T.copy(), np.array([row])
        batch = Batch.of(SMALL, down, np.full((len(columns), n), number, dtype=np.uint64))
        masks = np.full((1, n), mask, dtype=np.uint64)
        expected = batch.expected(up, masks)
        exact = batch.key.decrypt(batch.sums.results(up, masks, SEED, EXACT), 1, EXACT)
        assert (exact == expected).all()
        trimmed = batch.key.decrypt(batch.sums.results(up, masks, SEED, TRIM), 1, TRIM)
        assert np.abs(units(trimmed, expected, TRIM.top_bits)).max() <= 3

    def test_several_uploads_add_up(self) -> None:
        batch, rng = random_batch(SMALL, features=2), np.random.default_rng(4)
        down, numbers = integers(rng, MOST, 3, 40), words(rng, 40, 1024)
        batch.sums.add(batch.key.encrypt(numbers), down)
        whole = dataclasses.replace(
            batch, down=np.hstack([batch.down, down]), numbers=np.vstack([batch.numbers, numbers])
        )
        up, masks = integers(rng, MOST, 35, 3), words(rng, 35, 1024)
        found = batch.key.decrypt(batch.sums.results(up, masks, SEED, EXACT), 35, EXACT)
        assert (found == whole.expected(up, masks)).all()

    @pytest.mark.parametrize("row", [[0, 5, 0], [0, 0, -7], [0, 0, 0]])
    def test_of_some_of_the_sums(self, row: list[int]) -> None:
        batch, up = random_batch(SMALL), np.array([row])
        masks = words(np.random.default_rng(9), 1, 1024)
        found = batch.key.decrypt(batch.sums.results(up, masks, SEED, EXACT), 1, EXACT)
        assert (found == batch.expected(up, masks)).all()

    def test_with_the_online_answer_the_mean_error_is_none(self) -> None:
        """Both halves are rounded down by half a unit on average: the one that core adds makes up for it."""
        own, how, rng = SMALL, Switching(20, 30), np.random.default_rng(5)
        batch = random_batch(own, features=4)
        up, tokens = integers(rng, 2**14, 60, 3), own.ring_degree
        masks, x = words(rng, 60, tokens), integers(rng, 2**20, 4, tokens)
        c = batch.key.decrypt(batch.sums.results(up, masks, SEED, how), 60, how)
        y = (x.view(np.uint64) - batch.numbers).T.copy()
        answer = BACKEND.online_weights([batch.down, up]).answer(y.tobytes(), masks.T.copy(), how.top_bits)
        v = BACKEND.unpack(answer, tokens * 60, how.top_bits).reshape(tokens, 60).T
        exact = (up @ batch.down @ x).view(np.uint64)
        error = units(v + c + np.uint64(1), exact, how.top_bits)
        assert np.abs(error).max() <= 1.6
        # Two uniform roundings down and one to the nearest: a deviation of a half, of 61440 values.
        assert abs(error.mean()) < 5 * 0.5 / error.size**0.5
        assert 0.4 < error.std() < 0.6

    def test_one_prime_is_too_few_to_be_exact(self) -> None:
        batch, masks = random_batch(SHORT, features=1), np.zeros((1, 4096), np.uint64)
        with pytest.raises(InvalidParameters, match="two data primes"):
            batch.sums.results(np.ones((1, 3), np.int64), masks, SEED, EXACT)
        with pytest.raises(InvalidParameters, match="two data primes"):
            batch.key.decrypt(b"", 1, EXACT)


class TestRandomness:
    def test_the_same_arguments_give_the_same_bytes(self) -> None:
        batch, rng = random_batch(SMALL), np.random.default_rng(6)
        up, masks = integers(rng, MOST, 3, 3), words(rng, 3, 1024)
        for how in (TRIM, EXACT):
            payload = batch.sums.results(up, masks, SEED, how)
            assert batch.sums.results(up, masks, SEED, how) == payload
            assert batch.sums.results(up, masks, bytes([1]) * 32, how) != payload

    def test_other_seeds_and_rows_share_no_polynomial(self) -> None:
        """The same sums, re-randomised: as words that agree in no more places than random ones do."""
        batch = random_batch(SMALL)
        up, masks = np.array([[1, 2, 3]] * 2), np.zeros((2, 1024), np.uint64)
        how = Switching(64, 64)
        found: list[Words] = []
        for seed in (SEED, bytes([1]) * 32):
            payload = batch.sums.results(up, masks, seed, how)
            results = wire.read_results(rings.ring_of(SMALL), payload, 2, how)
            found += list(np.frombuffer(results.payload, dtype="<u8").reshape(4, -1))
        for i, first in enumerate(found):
            for second in found[:i]:
                assert not (first == second).any()
                assert abs(float(np.corrcoef(first.astype(float), second.astype(float))[0, 1])) < 0.2

    def test_encryptions_of_the_same_differ(self) -> None:
        key, numbers = BACKEND.batch_key(SMALL, NONCES), np.zeros((2, 1024), np.uint64)
        first, second = key.encrypt(numbers), key.encrypt(numbers)
        size = wire.polynomial_bytes(rings.ring_of(SMALL))
        rows = [first[-2 * size : -size], first[-size:], second[-2 * size : -size], second[-size:]]
        assert len({hashlib.sha256(row).digest() for row in rows}) == 4

    def test_the_uniform_polynomial_is_of_both_nonces(self) -> None:
        ring, found = rings.ring_of(SMALL), set()
        for nonces in (NONCES, NONCES[NONCE_BYTES:] + NONCES[:NONCE_BYTES], NONCES[:-1], NONCES[:-1] + b"\0"):
            stream = streams.row_stream(streams.nonces_seed(nonces), streams.Purpose.UNIFORM, 0)
            a = residues((1024,)), residues((2, 1024))
            streams.uniform(ring, stream, *a)
            found |= {row.tobytes() for row in (a[0], *a[1])}
        assert len(found) == 12

    def test_results_do_not_depend_on_the_kernel_set(self, kernel_set: str) -> None:
        """Of a key and an upload that are the same for all sets: each makes and reads what any other does."""
        rng, digests, numbers = np.random.default_rng(7), {}, words(np.random.default_rng(8), 2, 1024)
        own = rings.ring_of(SMALL)
        assert own.kernels.name == kernel_set
        key = BACKEND.batch_key(SMALL, NONCES)
        upload, down = key.encrypt(numbers), integers(rng, MOST, 2, 2)
        up, masks = integers(rng, MOST, 2, 2), words(rng, 2, 1024)
        for name in ("numpy", kernel_set):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(choice.VARIABLE, name)
                contexts.context.cache_clear()
                sums = RNSBatchSums(rings.WordRing(1024, SMALL.data_primes), key.public_key, NONCES, 2)
            sums.add(upload, down)
            expected = Batch(key, sums, down, numbers).expected(up, masks)
            digests[name] = [sums.results(up, masks, SEED, how) for how in (TRIM, FINE, EXACT)]
        assert digests["numpy"] == digests[kernel_set]
        for how, payload in zip((TRIM, FINE, EXACT), digests["numpy"], strict=True):
            error = units(key.decrypt(payload, 2, how), expected, how.top_bits)
            assert np.abs(error).max() <= (0 if how.exact else 3)


class TestRefusals:
    def test_an_erased_key_does_nothing(self) -> None:
        batch, masks = random_batch(SMALL), np.zeros((1, 1024), np.uint64)
        payload = batch.sums.results(np.ones((1, 3), np.int64), masks, SEED, TRIM)
        secret = batch.key._secret().minus
        batch.key.erase()
        assert not secret.any()
        assert not batch.key._ones.any()
        # Nor is anything left where products with it were.
        assert not getattr(getattr(batch.key._words, "_local", None), "rows", np.zeros(1)).any()
        with pytest.raises(ValueError, match="erased"):
            batch.key.encrypt(batch.numbers)
        with pytest.raises(ValueError, match="erased"):
            batch.key.decrypt(payload, 1, TRIM)
        batch.key.erase()

    def test_bad_uploads_change_nothing(self) -> None:
        batch, masks = random_batch(SMALL), np.zeros((3, 1024), np.uint64)
        up = np.eye(3, dtype=np.int64)
        before = batch.sums.results(up, masks, SEED, EXACT)
        good = batch.key.encrypt(batch.numbers)
        size, end = wire.polynomial_bytes(rings.ring_of(SMALL)), len(good)
        beyond = bytearray(good)
        beyond[end - 6 :] = b"\xff" * 6  # the last residue of the last ciphertext is not below its prime
        other = bytearray(good)
        other[4] += 1
        for payload, error in (
            (good[:-1], CorruptPayload),
            (good + b"\0", CorruptPayload),
            (good[:-size], CorruptPayload),
            (b"", CorruptPayload),
            (bytes(beyond), CorruptPayload),
            (bytes(other), VersionMismatch),
            (batch.key.public_key, CorruptPayload),
            (random_batch(params(2048)).key.encrypt(words(np.random.default_rng(1), 5, 2048)), ForeignCiphertext),
        ):
            with pytest.raises(error):
                batch.sums.add(payload, batch.down)
            assert batch.sums.results(up, masks, SEED, EXACT) == before

    def test_bad_keys(self) -> None:
        key = BACKEND.batch_key(SMALL, NONCES).public_key
        swapped = NONCES[NONCE_BYTES:] + NONCES[:NONCE_BYTES]
        wrong = [b"", key[:-1], key + b"\0", key[:-6] + b"\xff" * 6, bytes(len(key))]
        for payload, nonces in [*((payload, NONCES) for payload in wrong), (key, swapped), (key, NONCES[:-1])]:
            with pytest.raises(CorruptPayload):
                BACKEND.batch_sums(SMALL, payload, nonces, 1)

    def test_bad_results(self) -> None:
        batch, masks = random_batch(SMALL), np.zeros((1, 1024), np.uint64)
        up = np.ones((1, 3), np.int64)
        good, exact = (batch.sums.results(up, masks, SEED, how) for how in (TRIM, EXACT))
        told = HEADER_BYTES
        for payload, how in (
            (good[:-1], TRIM),
            (good + b"\0", TRIM),
            (good, Switching(32, 27)),
            (good[:told] + bytes([32, 27, 0]) + good[told + 3 :], TRIM),
            (exact[:-6] + b"\xff" * 6, EXACT),
            (exact, Switching(64, 64)),
        ):
            with pytest.raises(CorruptPayload):
                batch.key.decrypt(payload, 1, how)
        with pytest.raises(CorruptPayload):
            batch.key.decrypt(good, 2, TRIM)

    def test_a_seed_has_32_bytes(self) -> None:
        batch, masks = random_batch(SMALL, features=1), np.zeros((1, 1024), np.uint64)
        with pytest.raises(ValueError, match="32 bytes"):
            batch.sums.results(np.ones((1, 3), np.int64), masks, bytes(16), TRIM)

    @pytest.mark.parametrize("bits", [(42, 42, 42), (50, 42), (20,), (20, 20)])
    def test_other_chains(self, bits: tuple[int, ...]) -> None:
        with pytest.raises(InvalidParameters):
            BACKEND.batch_key(params(bits=bits), NONCES)

    def test_parameters_without_a_wrap_limb(self) -> None:
        own = BACKEND.resolve(CKKSParams(ring_degree=1024, data_bits=(42, 42), special_bits=(), scale_bits=20))
        with pytest.raises(InvalidParameters, match="wrap limb"):
            BACKEND.batch_key(own, NONCES)


class TestPacking:
    @given(st.integers(1, 64), st.lists(st.integers(0, MOST_WORD), max_size=20))
    def test_round_trip(self, bits: int, numbers: list[int]) -> None:
        short = np.array(numbers, dtype=np.uint64) >> np.uint64(64 - bits)
        payload = BACKEND.pack(short, bits)
        assert len(payload) == (short.size * bits + 7) // 8
        assert (BACKEND.unpack(payload, short.size, bits) == short).all()
        whole = sum(int(number) << (bits * i) for i, number in enumerate(short))
        assert payload == whole.to_bytes(len(payload), "little")

    def test_another_length(self) -> None:
        with pytest.raises(CorruptPayload):
            BACKEND.unpack(bytes(5), 2, 16)
