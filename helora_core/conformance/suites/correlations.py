"""Plans that run ahead of time: results are what they should be, and look random to whoever lacks key, mask or seed.

Long, since it has the laws of a whole ability.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.correlations import (
    NONCE_BYTES,
    SEED_BYTES,
    WRAP_BITS,
    BatchSums,
    Cut,
    Integers,
    Switching,
)
from helora_core.conformance.bench import Bench
from helora_core.conformance.precomputing import (
    D_IN,
    D_OUT,
    EXACT,
    HEADER_BYTES,
    LARGE,
    RANK,
    SMALL,
    TRIM,
    Batch,
    assert_no_echo,
    assert_uniform,
    assert_unrelated,
    integers,
    off,
    product,
    seed,
    words,
)
from helora_core.conformance.requirements import requires, slow
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import ERROR_STD
from helora_core.params.security import require_secure

DEVIATIONS = 6.0
LARGEST = (1 << 23) - 1
"""Of matrices."""

_CHAINS = pytest.mark.parametrize("params", [SMALL, LARGE], ids=["4096", "8192"])
_MODES = pytest.mark.parametrize(("params", "how"), [(SMALL, TRIM), (LARGE, EXACT)], ids=["trim", "exact"])
"""One prime leaves nothing to round by, so that exact results have two."""


class Correlations:
    """Batches of few features and outputs."""

    @requires("correlations")
    @_CHAINS
    def test_parameters_ahead_of_time_are_those_asked_for_and_secure(self, bench: Bench, params: CKKSParams) -> None:
        resolved = bench.backend.resolve(params)
        assert (resolved.ring_degree, resolved.data_bits, resolved.wrap_bits) == (
            params.ring_degree,
            params.data_bits,
            WRAP_BITS,
        )
        assert len(set(resolved.data_primes)) == len(params.data_bits)
        assert resolved.data_modulus_bits == WRAP_BITS + sum(params.data_bits)
        require_secure(resolved)

    @requires("correlations")
    @_CHAINS
    def test_trimmed_results_are_within_their_units_and_half_a_unit_low(self, bench: Bench, params: CKKSParams) -> None:
        """Half a unit is what rounding down takes, and what the caller adds: any other mean gathers in Δ."""
        batch = Batch(bench, params)
        for how in (TRIM, Switching(top_bits=34, key_bits=52)):
            found, expected = batch.masked(integers(14, RANK, D_IN), integers(18, D_OUT, RANK), how)
            assert found.shape == expected.shape
            assert int(found.max()) < 1 << how.top_bits
            errors = off(found, expected, how)
            worst = float(np.max(np.abs(errors + 0.5)))
            assert worst < 1.6, f"a result of {how.top_bits} bits is {worst:.2f} units off"
            mean = abs(float(np.mean(errors)) + 0.5) * math.sqrt(6 * errors.size)
            assert mean < DEVIATIONS, f"the mean is {np.mean(errors):.3f} units, and not -0.5"

    @requires("correlations")
    def test_exact_results_are_exact(self, bench: Bench) -> None:
        batch = Batch(bench, LARGE)
        for bits in (1, 13):
            found, expected = batch.masked(integers(bits, RANK, D_IN), integers(bits, D_OUT, RANK), EXACT)
            wrong = float(np.mean(found != expected))
            assert wrong == 0, f"{wrong:.1%} of the results are wrong"

    @requires("correlations")
    def test_sums_of_several_uploads_add_up(self, bench: Bench) -> None:
        batch = Batch(bench, LARGE)
        sums, total = batch.sums(), np.zeros((RANK, batch.places), dtype=np.uint64)
        for count in (1, 2, 5):
            down, numbers = integers(13, RANK, count), words(count, batch.places)
            sums.add(batch.key.encrypt(numbers), down)
            total += product(down, numbers)
        for rows in (1, 3):  # results may be asked for in parts
            up, masks = integers(10, rows, RANK), words(rows, batch.places)
            found = batch.key.decrypt(sums.results(up, masks, seed(), EXACT), rows, EXACT)
            assert np.array_equal(found, product(up, total) - masks)

    @requires("correlations")
    @_MODES
    def test_the_same_arguments_give_the_same_results_and_another_seed_others(
        self, bench: Bench, params: CKKSParams, how: Switching
    ) -> None:
        """An encryption of zero is in both polynomials: if only one changes, the other shows W times what was sent."""
        batch = Batch(bench, params)
        sums = batch.sums()
        sums.add(batch.key.encrypt(words(D_IN, batch.places)), integers(14, RANK, D_IN))
        up, masks, once = integers(14, D_OUT, RANK), words(D_OUT, batch.places), seed()
        first = sums.results(up, masks, once, how)
        assert sums.results(up, masks, once, how) == first
        for place in (0, SEED_BYTES - 1):
            other = bytes(byte ^ (i == place) for i, byte in enumerate(once))
            assert_unrelated(first, sums.results(up, masks, other, how))

    @requires("correlations")
    @_MODES
    def test_equal_rows_of_a_result_have_nothing_in_common(
        self, bench: Bench, params: CKKSParams, how: Switching
    ) -> None:
        batch = Batch(bench, params)
        sums = batch.sums()
        sums.add(batch.key.encrypt(words(D_IN, batch.places)), integers(14, RANK, D_IN))
        up, masks = integers(14, 1, RANK).repeat(3, axis=0), words(1, batch.places).repeat(3, axis=0)
        assert_no_echo(sums.results(up, masks, seed(), how))

    @requires("correlations")
    def test_two_uploads_of_the_same_numbers_have_nothing_in_common(self, bench: Bench) -> None:
        """Nor have two ciphertexts of one upload: if two share a polynomial, their difference is readable."""
        batch = Batch(bench)
        numbers = words(1, batch.places).repeat(3, axis=0)
        first, second = batch.key.encrypt(numbers), batch.key.encrypt(numbers)
        assert_unrelated(first, second)
        assert_no_echo(first)

    @requires("correlations")
    def test_errors_of_uploads_are_fresh_and_of_their_size(self, bench: Bench) -> None:
        batch = Batch(bench)
        zero = np.zeros((1, batch.places), dtype=np.uint64)
        errors = np.concatenate([_errors_of(batch, batch.key.encrypt(zero), 1) for _ in range(2)])
        assert np.std(errors) == pytest.approx(ERROR_STD, rel=0.05)
        assert abs(float(np.mean(errors))) < DEVIATIONS * ERROR_STD / math.sqrt(errors.size)
        alike = abs(float(np.corrcoef(errors)[0, 1]))
        assert alike < DEVIATIONS / math.sqrt(batch.places), f"the errors of two uploads correlate by {alike:.2f}"

    @requires("correlations")
    def test_exact_results_are_flooded_by_a_quarter_of_q1(self, bench: Bench) -> None:
        """An upload of random bytes shows it: fractions of q₁ are rounded one way or another, as floods say.

        Of two results, one sixth differ: half of the fractions are within a quarter of a half, and those are rounded up
        with a chance that is uniform.
        """
        batch = Batch(bench, LARGE)
        sums, one = batch.sums(1), np.ones((1, 1), dtype=np.int64)
        _add_random_bytes(batch, sums, one)
        masks = words(1, batch.places).repeat(D_OUT, axis=0)
        payload = sums.results(one.repeat(D_OUT, axis=0), masks, seed(), EXACT)
        found = batch.key.decrypt(payload, D_OUT, EXACT)
        share = float(np.mean(found[1:] != found[:-1]))
        spread = DEVIATIONS * math.sqrt(5 / 36 / batch.places)
        assert abs(share - 1 / 6) < spread, f"{share:.3f} of two results differ, and not {1 / 6:.3f}"

    @requires("correlations")
    @_MODES
    def test_uploads_and_results_look_uniform(self, bench: Bench, params: CKKSParams, how: Switching) -> None:
        """To whoever has no key, and no mask; for numbers and weights that are all zero, or all alike."""
        batch = Batch(bench, params)
        for value in (0, 1):
            sent = batch.key.encrypt(np.full((D_IN, batch.places), value, dtype=np.uint64))
            assert_uniform(sent)
            sums = batch.sums()
            sums.add(sent, np.full((RANK, D_IN), value))
            up, masks = np.full((D_OUT, RANK), value), words(D_OUT, batch.places)
            assert_uniform(sums.results(up, masks, seed(), how))

    @requires("correlations")
    @_MODES
    def test_messages_are_as_long_as_their_bits(self, bench: Bench, params: CKKSParams, how: Switching) -> None:
        batch = Batch(bench, params)
        polynomial = WRAP_BITS + sum(params.data_bits)
        numbers = D_IN * batch.places
        assert len(batch.key.encrypt(words(D_IN, batch.places))) <= numbers * polynomial // 8 + HEADER_BYTES
        assert len(batch.key.public_key) <= batch.places * polynomial // 8 + HEADER_BYTES
        sums = batch.sums()
        results = sums.results(integers(9, D_OUT, RANK), words(D_OUT, batch.places), seed(), how)
        left = params.data_bits[0] if how.exact else 0
        assert len(results) <= D_OUT * batch.places * (how.top_bits + how.key_bits + 2 * left) // 8 + HEADER_BYTES

    @requires("correlations")
    def test_the_key_of_another_batch_decrypts_nothing(self, bench: Bench) -> None:
        """Each batch has its own, even for equal nonces: what a server learns of one is void for the next."""
        batch = Batch(bench, LARGE)
        other = Batch(bench, LARGE, nonces=batch.nonces)
        assert batch.key.public_key != other.key.public_key
        sums, numbers = batch.sums(rows=1), words(1, batch.places)
        sums.add(batch.key.encrypt(numbers), np.ones((1, 1), dtype=np.int64))
        masks = np.zeros((1, batch.places), dtype=np.uint64)
        payload = sums.results(np.ones((1, 1), dtype=np.int64), masks, seed(), EXACT)
        assert np.array_equal(batch.key.decrypt(payload, 1, EXACT), numbers)
        right = float(np.mean(other.key.decrypt(payload, 1, EXACT) == numbers))
        assert right < 0.01, f"another key decrypts {right:.0%}"

    @requires("correlations")
    def test_an_erased_key_does_nothing_more(self, bench: Bench) -> None:
        batch = Batch(bench)
        sums = batch.sums()
        sums.add(batch.key.encrypt(words(D_IN, batch.places)), integers(9, RANK, D_IN))
        payload = sums.results(integers(9, D_OUT, RANK), words(D_OUT, batch.places), seed(), TRIM)
        batch.key.erase()
        with pytest.raises(ValueError, match=r".+"):
            batch.key.encrypt(words(D_IN, batch.places))
        with pytest.raises(ValueError, match=r".+"):
            batch.key.decrypt(payload, D_OUT, TRIM)
        batch.key.erase()

    @requires("correlations")
    def test_a_public_key_of_other_nonces_is_refused(self, bench: Bench) -> None:
        """Both parties contribute to its uniform part, so that neither chooses it."""
        batch = Batch(bench)
        public_key, nonces = batch.key.public_key, batch.nonces
        swapped = nonces[NONCE_BYTES:] + nonces[:NONCE_BYTES]
        for key, of in (
            (public_key, swapped),
            (public_key, nonces[:-1] + bytes([nonces[-1] ^ 1])),
            (public_key[:-1], nonces),
            (public_key + b"\0", nonces),
            (b"", nonces),
            (b"\xff" * len(public_key), nonces),
        ):
            with pytest.raises(Exception, match=r".*"):
                batch.library.batch_sums(batch.params, key, of, RANK)

    @requires("correlations")
    def test_bytes_that_are_no_upload_change_nothing(self, bench: Bench) -> None:
        batch = Batch(bench, LARGE)
        down, numbers = integers(13, RANK, D_IN), words(D_IN, batch.places)
        sums = batch.sums()
        sums.add(batch.key.encrypt(numbers), down)
        sent = batch.key.encrypt(words(D_IN, batch.places))
        for wrong in (b"", sent[:-1], sent + b"\0", sent[: len(sent) // 2], b"\xff" * len(sent)):
            with pytest.raises(Exception, match=r".*"):
                sums.add(wrong, down)
        with pytest.raises(Exception, match=r".*"):
            sums.add(sent, down[:, 1:])
        up, masks = integers(10, D_OUT, RANK), words(D_OUT, batch.places)
        payload = sums.results(up, masks, seed(), EXACT)
        assert np.array_equal(batch.key.decrypt(payload, D_OUT, EXACT), product(up, product(down, numbers)) - masks)

    @requires("correlations")
    @_MODES
    def test_bytes_that_are_no_results_are_refused(self, bench: Bench, params: CKKSParams, how: Switching) -> None:
        batch = Batch(bench, params)
        payload = batch.sums().results(integers(9, D_OUT, RANK), words(D_OUT, batch.places), seed(), how)
        for wrong, count in ((b"", D_OUT), (payload[:-1], D_OUT), (payload + b"\0", D_OUT), (payload, D_OUT - 1)):
            with pytest.raises(Exception, match=r".*"):
                batch.key.decrypt(wrong, count, how)

    @requires("correlations")
    @pytest.mark.parametrize("d_in", [1, 9, 4097, 11008])
    def test_answers_online_are_exact_modulo_the_word(self, bench: Bench, d_in: int) -> None:
        """For the largest numbers there are, too, where a sum of products without a fold would overflow."""
        library = Batch(bench).library
        down = np.stack([np.full(d_in, LARGEST), np.full(d_in, -LARGEST), integers(22, d_in)])
        up = np.stack([np.full(3, -LARGEST), np.full(3, LARGEST), integers(22, 3)])
        y = np.stack([np.full(d_in, (1 << WRAP_BITS) - 1, dtype=np.uint64), words(d_in), np.zeros(d_in, np.uint64)])
        masks = words(3, 3)
        weights = library.online_weights([down, up])
        exact = (up.astype(object) @ (down.astype(object) @ y.T.astype(object))).T + masks
        for bits in (1, 24, 33, WRAP_BITS):
            packed = weights.answer(y.astype("<u8").tobytes(), masks, bits)
            assert len(packed) == (9 * bits + 7) // 8
            found = library.unpack(packed, 9, bits).reshape(3, 3)
            assert np.array_equal(found, (exact % (1 << WRAP_BITS)) >> (WRAP_BITS - bits))
        one = library.online_weights([down]).answer(y[0].astype("<u8").tobytes(), masks[:1], WRAP_BITS)
        assert np.array_equal(np.frombuffer(one, dtype="<u8"), product(down, y[0]) + masks[0])

    @requires("correlations")
    @pytest.mark.parametrize("d_in", [1, 9, 4097, 11008])
    def test_pads_are_taken_off_the_nearest_integers(self, bench: Bench, d_in: int) -> None:
        """Ties go to even ones, so that rounding has no direction; and every token has a factor of its own."""
        library, largest = Batch(bench).library, float((1 << 51) - 1)
        numbers = np.resize([0.0, -0.0, 0.5, 1.5, -0.5, -2.5, 2.25, -2.75, largest, -largest], (2, d_in))
        numbers[1] = np.roll(numbers[1], 5)
        exponents, pads = np.array([7, -30]), words(2, d_in)
        pads[:, ::3], pads[:, 1::3] = 0, (1 << WRAP_BITS) - 1
        x = np.ldexp(numbers, -exponents[:, np.newaxis])
        payload = library.padded(x, np.ldexp(1.0, exponents), pads)
        assert len(payload) == 8 * x.size
        found = np.frombuffer(payload, dtype="<u8").reshape(x.shape)
        whole = np.array([[round(number) for number in row] for row in numbers.tolist()], dtype=object)
        assert np.array_equal(found, (whole - pads) % (1 << WRAP_BITS))

    @requires("correlations")
    @pytest.mark.parametrize("outputs", [1, 5, 4097])
    def test_what_is_revealed_is_in_the_middle_of_its_units(self, bench: Bench, outputs: int) -> None:
        """Of both numbers half a unit is added for the bits that were cut off; sums are signed."""
        library, exponents = Batch(bench).library, np.array([-40, 3, 0])
        for cut in (Cut(24, 27), Cut(24, 24), Cut(1, 64), Cut(33, 1), Cut(WRAP_BITS, WRAP_BITS)):
            tops = [words(3, outputs) >> np.uint64(WRAP_BITS - bits) for bits in cut]
            for top, bits in zip(tops, cut, strict=True):
                top[:, :1] = [[0], [(1 << bits) - 1], [1 << bits >> 1]]
            rows = [library.pack(row, cut.result_bits) for row in tops[1]]
            answers = library.pack(tops[0].reshape(-1), cut.answer_bits)
            found = library.revealed(answers, b"".join(rows), cut, np.ldexp(1.0, exponents), outputs)
            middles = [
                (2 * top.astype(object) + (bits < WRAP_BITS)) << (WRAP_BITS - bits) >> 1
                for top, bits in zip(tops, cut, strict=True)
            ]
            half = 1 << (WRAP_BITS - 1)
            signed = (middles[0] + middles[1] + half) % (1 << WRAP_BITS) - half
            assert np.array_equal(found, np.ldexp(signed.astype(np.float64), exponents[:, np.newaxis]))

    @requires("correlations")
    def test_packed_numbers_are_their_bits_in_order(self, bench: Bench) -> None:
        library = Batch(bench).library
        for bits in range(1, WRAP_BITS + 1):
            for count in (0, 1, 7, 64, 131):
                numbers = words(count) >> np.uint64(WRAP_BITS - bits)
                numbers[:2] = (1 << bits) - 1
                whole = sum(int(number) << (bits * i) for i, number in enumerate(numbers))
                packed = library.pack(numbers, bits)
                assert packed == whole.to_bytes((count * bits + 7) // 8, "little"), f"{count} numbers of {bits} bits"
                assert np.array_equal(library.unpack(packed, count, bits), numbers)

    @requires("correlations")
    @slow
    def test_long_sums_are_exact(self, bench: Bench) -> None:
        """Of more products than an accumulator of 64 bits has room for. (The ring is too small to be secure.)"""
        small = CKKSParams(ring_degree=1024, data_bits=(42, 42), special_bits=(), scale_bits=20, wrap_bits=WRAP_BITS)
        batch, count = Batch(bench, small), 4097
        down = np.stack([np.full(count, LARGEST), np.full(count, -LARGEST)])
        found, expected = batch.masked(down, np.eye(2, dtype=np.int64), EXACT)
        assert np.array_equal(found, expected)


def _add_random_bytes(batch: Batch, sums: BatchSums, one: Integers) -> None:
    """Add an upload of random bytes. One in a thousand has a residue beyond its prime, and is refused."""
    sent = batch.key.encrypt(words(1, batch.places))
    random = words(len(sent) // 8 + 1).tobytes()
    try:
        sums.add(sent[:HEADER_BYTES] + random[: len(sent) - HEADER_BYTES], one)
    except Exception:
        _add_random_bytes(batch, sums, one)


def _errors_of(batch: Batch, upload: bytes, count: int) -> NDArray[np.float64]:
    """The errors of an upload of zeros, which show where weights are larger than q₁: shape (count, N)."""
    weight, times, whole = 1 << 22, 64, Switching(WRAP_BITS, WRAP_BITS)
    sums, one = batch.sums(count), np.eye(count, dtype=np.int64) * weight
    for _ in range(times):
        sums.add(upload, one)
    masks = words(count, batch.places)
    sizes = batch.key.decrypt(sums.results(one, masks, seed(), whole), count, whole) + masks
    errors: NDArray[np.float64] = np.rint(sizes.astype(np.int64) * (batch.params.data_primes[0] / times / weight**2))
    return errors
