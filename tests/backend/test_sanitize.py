"""Sanitising does what it says, to the bit, on every backend: what it adds, what it leaves, what it refuses."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding, RescaleMode
from helora_core.backend.protocol import Backend
from helora_core.backend.sanitize import (
    encryption_of_zero,
    flooding,
    rerandomize,
    sanitize,
    uniform_mask,
)
from helora_core.errors import CapabilityMissing, InvalidInput, PrecisionLost
from tests.backend.bench import QUICK, REFRESHED, SCALE, SLOTS, TOP, Bench, N, by_chance, is_normal, open_bench
from tests.backend.exact import chi_square, integers_of, least


class TestFlooding:
    @pytest.mark.parametrize(("bits", "level"), [(12, 0), (30, 0), (12, TOP), (50, TOP), (96, TOP)])
    def test_the_error_is_what_was_asked_in_coefficients_and_in_slots(
        self, bench: Bench, x: NDArray[np.float64], bits: int, level: int
    ) -> None:
        ciphertext = bench.encrypted(x, level)
        flooded = [flooding(*bench.parts, ciphertext, flood_bits=bits) for _ in range(6)]
        noise = np.concatenate([bench.added(ciphertext, each).astype(float) for each in flooded])
        is_normal(noise, 2.0**bits)
        error = np.concatenate(
            [bench.client.decrypt(each) - bench.client.decrypt(ciphertext) for each in flooded]
        ) * bench.server.scale(ciphertext)
        is_normal(error, 2.0**bits * math.sqrt(N / 2))

    @pytest.mark.parametrize(("bits", "level"), [(30, 0), (96, TOP)])
    def test_it_is_as_large_where_integers_are_not_exact(
        self, bench: Bench, x: NDArray[np.float64], bits: int, level: int
    ) -> None:
        ciphertext = bench.encrypted(x, level)
        parts = (bench.server, bench.params, bench.inexact, ciphertext)
        noise = [bench.added(ciphertext, flooding(*parts, flood_bits=bits)) for _ in range(3)]
        is_normal(np.concatenate(noise).astype(float), 2.0**bits)

    def test_a_flood_that_wraps_around_is_refused(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(x, 0)
        with refused(PrecisionLost, "flood of 41 bits", "45-bit modulus of level 0"):
            flooding(*bench.parts, ciphertext, flood_bits=41)
        flooding(*bench.parts, ciphertext, flood_bits=39)

    @pytest.mark.parametrize("bits", [-1, 961, 1024, 5000])
    def test_sizes_that_are_none_are_refused(
        self, bench: Bench, refused: Any, x: NDArray[np.float64], bits: int
    ) -> None:
        ciphertext = bench.encrypted(x)
        with refused(InvalidInput, f"flood_bits={bits}"):
            flooding(*bench.parts, ciphertext, flood_bits=bits)
        with refused(InvalidInput, f"mask_bits={bits}"):
            sanitize(*bench.parts, ciphertext, encoding=Encoding.SLOTS, flood_bits=20, mask_bits=bits)


class TestUniformMask:
    @pytest.mark.parametrize("level", range(TOP + 1))
    def test_the_client_sees_the_message_and_the_mask_modulo_the_primes(
        self, bench: Bench, x: NDArray[np.float64], level: int
    ) -> None:
        ciphertext = bench.encrypted(x, level)
        masked, mask = uniform_mask(*bench.parts, ciphertext)
        primes = bench.params.data_primes[: level + 1]
        assert mask.dtype == np.uint64
        assert mask.shape == (level + 1, N)
        assert (mask < np.array(primes, dtype=np.uint64)[:, np.newaxis]).all()
        assert bench.server.level(masked) == level
        assert bench.server.scale(masked) == bench.server.scale(ciphertext)
        # What re-randomising adds, and nothing else: the masks are exact.
        added = bench.added(ciphertext, masked) - np.array(integers_of(mask, primes), dtype=object)
        error = np.abs(np.array(least(added.tolist(), bench.modulus(level)), dtype=object)).astype(float)
        assert 0 < np.max(error) < REFRESHED

    @pytest.mark.parametrize("level", [0, TOP])
    def test_masked_coefficients_are_uniform_and_unrelated_to_the_message(
        self, bench: Bench, x: NDArray[np.float64], level: int
    ) -> None:
        ciphertext = bench.encrypted(x, level)
        draws = [uniform_mask(*bench.parts, ciphertext) for _ in range(4)]
        seen = np.array([[each / bench.modulus(level) for each in bench.integers(masked)] for masked, _ in draws])
        assert chi_square(seen.ravel()) < 8
        for row in seen:
            assert abs(np.corrcoef(row, x)[0, 1]) < by_chance(N)
        assert len({mask.tobytes() for _, mask in draws}) == 4

    def test_without_exact_integers_it_is_refused(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        with refused(CapabilityMissing, "through doubles", hint="exact_integers"):
            uniform_mask(bench.server, bench.params, bench.inexact, bench.encrypted(x, 0))


class TestSanitizeSlots:
    """Real parts of the slots to keep are flooded; all the others, and the imaginary parts, are drowned."""

    FLOOD = 24
    MASK = 50
    KEEP = tuple(range(5, SLOTS, 7))

    @pytest.mark.parametrize("keep", [None, KEEP, tuple(range(SLOTS)), (SLOTS - 1,)])
    def test_what_is_added_to_each_part(
        self, bench: Bench, slots: NDArray[np.float64], keep: tuple[int, ...] | None
    ) -> None:
        ciphertext = bench.encrypted(slots, encoding=Encoding.SLOTS)
        read = np.isin(np.arange(SLOTS), range(SLOTS) if keep is None else keep)
        results = [
            sanitize(
                *bench.parts,
                ciphertext,
                encoding=Encoding.SLOTS,
                flood_bits=self.FLOOD,
                mask_bits=self.MASK,
                keep=keep,
            )
            for _ in range(8)
        ]
        for result in results:
            assert bench.server.level(result) == TOP
            assert bench.server.scale(result) == SCALE
        added = np.array([bench.slots_added(ciphertext, result) for result in results])
        if read.sum() > 8:
            is_normal(added.real[:, read].ravel(), 2.0**self.FLOOD * math.sqrt(N / 2))
        else:
            assert np.max(np.abs(added.real[:, read])) < 6 * 2.0**self.FLOOD * math.sqrt(N / 2)
        if not read.all():
            is_normal(added.real[:, ~read].ravel(), 2.0**self.MASK)
        is_normal(added.imag.ravel(), 2.0**self.MASK)
        # Each draw is another.
        assert np.max(np.abs(np.corrcoef(added.imag) - np.eye(8))) < by_chance(SLOTS)

    def test_the_result_is_there_to_read(self, bench: Bench, slots: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(slots, encoding=Encoding.SLOTS)
        result = sanitize(*bench.parts, ciphertext, encoding=Encoding.SLOTS, flood_bits=8, mask_bits=60, keep=self.KEEP)
        seen = bench.decrypted(result, Encoding.SLOTS) / SCALE
        keep = list(self.KEEP)
        assert np.max(np.abs(seen - slots)[keep]) < 6 * 2.0**8 * math.sqrt(N / 2) / SCALE
        others = np.delete(seen, keep)
        assert abs(np.corrcoef(others, np.delete(slots, keep))[0, 1]) < by_chance(others.size)

    @pytest.mark.parametrize("level", [0, 1])
    def test_at_lower_levels_and_where_integers_are_not_exact(
        self, bench: Bench, slots: NDArray[np.float64], level: int
    ) -> None:
        ciphertext = bench.encrypted(slots, level, Encoding.SLOTS)
        for capabilities in (bench.capabilities, bench.inexact):
            results = [
                sanitize(
                    bench.server,
                    bench.params,
                    capabilities,
                    ciphertext,
                    encoding=Encoding.SLOTS,
                    flood_bits=16,
                    mask_bits=34,
                    keep=range(0, SLOTS, 2),
                )
                for _ in range(3)
            ]
            added = np.array([bench.slots_added(ciphertext, result) for result in results])
            is_normal(added.real[:, ::2].ravel(), 2.0**16 * math.sqrt(N / 2))
            is_normal(added.real[:, 1::2].ravel(), 2.0**34)
            is_normal(added.imag.ravel(), 2.0**34)

    def test_a_mask_that_wraps_around_is_refused(self, bench: Bench, refused: Any, slots: NDArray[np.float64]) -> None:
        """A mask's coefficients are smaller than what it adds to slots by 2^4.5: 44 bits, and 3.1 for the largest."""
        ciphertext = bench.encrypted(slots, 0, Encoding.SLOTS)
        sanitize(*bench.parts, ciphertext, encoding=Encoding.SLOTS, flood_bits=8, mask_bits=45)
        with refused(PrecisionLost, "flood with its mask of 42 bits", "45-bit modulus of level 0"):
            sanitize(*bench.parts, ciphertext, encoding=Encoding.SLOTS, flood_bits=8, mask_bits=46)


class TestSanitizeCoefficients:
    """Coefficients to keep are flooded; all the others are uniform modulo the whole modulus."""

    KEEP = tuple(range(31, N, 32))

    @pytest.mark.parametrize("level", range(TOP + 1))
    def test_what_is_not_kept_is_uniform_modulo_the_whole_modulus(
        self, bench: Bench, x: NDArray[np.float64], level: int
    ) -> None:
        others = ~np.isin(np.arange(N), self.KEEP)
        ciphertext = bench.encrypted(x, level)
        kept, seen = [], []
        for _ in range(5):
            result = sanitize(*bench.parts, ciphertext, encoding=Encoding.COEFFICIENTS, flood_bits=12, keep=self.KEEP)
            assert bench.server.level(result) == level
            assert bench.server.scale(result) == bench.server.scale(ciphertext)
            kept.append(bench.added(ciphertext, result)[~others].astype(float))
            seen.append(np.array(bench.integers(result), dtype=object)[others])
        is_normal(np.concatenate(kept), 2.0**12)
        modulus = bench.modulus(level)
        shares = np.array([[float(each) / modulus for each in row] for row in seen])
        assert chi_square(np.minimum(shares.ravel(), 1 - 2.0**-53)) < 8
        for prime in bench.params.data_primes[: level + 1]:
            residues = np.array([[int(each) % prime / prime for each in row] for row in seen])
            assert chi_square(residues.ravel()) < 8
        for row in shares:
            assert abs(np.corrcoef(row, x[others])[0, 1]) < by_chance(row.size)
        assert np.max(np.abs(np.corrcoef(shares) - np.eye(5))) < by_chance(shares.shape[1])

    def test_to_keep_all_floods_all_and_masks_nothing(self, bench: Bench, x: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(x)
        for keep in (None, range(N)):
            added = [
                bench.added(
                    ciphertext,
                    sanitize(*bench.parts, ciphertext, encoding=Encoding.COEFFICIENTS, flood_bits=24, keep=keep),
                )
                for _ in range(3)
            ]
            is_normal(np.concatenate(added).astype(float), 2.0**24)

    def test_without_exact_integers_all_may_be_kept_and_nothing_masked(
        self, bench: Bench, refused: Any, x: NDArray[np.float64]
    ) -> None:
        ciphertext = bench.encrypted(x)
        parts = (bench.server, bench.params, bench.inexact, ciphertext)
        result = sanitize(*parts, encoding=Encoding.COEFFICIENTS, flood_bits=24)
        assert np.std(bench.added(ciphertext, result).astype(float)) == pytest.approx(2.0**24, rel=0.12)
        for keep in (self.KEEP, range(N)):
            with refused(CapabilityMissing, "through doubles", hint="exact_integers"):
                sanitize(*parts, encoding=Encoding.COEFFICIENTS, flood_bits=24, keep=keep)

    def test_the_same_ciphertext_becomes_another_one_each_time(self, bench: Bench, x: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(x)
        first, second = (
            sanitize(*bench.parts, ciphertext, encoding=Encoding.COEFFICIENTS, flood_bits=30) for _ in range(2)
        )
        assert bench.server.serialize(first) != bench.server.serialize(second)
        errors = [bench.added(ciphertext, each).astype(float) for each in (first, second)]
        assert abs(np.corrcoef(*errors)[0, 1]) < by_chance(N)


class TestPlacesToKeep:
    """None keeps all; to keep nothing is no result, and so is a place that is not there."""

    @pytest.mark.parametrize(("encoding", "places"), [(Encoding.SLOTS, SLOTS), (Encoding.COEFFICIENTS, N)])
    @pytest.mark.parametrize("keep", [(), (-1,), (0, "end"), range(0), [-1, 0, 1]])
    def test_places_that_are_none_are_refused(
        self, bench: Bench, refused: Any, x: NDArray[np.float64], encoding: Encoding, places: int, keep: Any
    ) -> None:
        keep = [places if each == "end" else each for each in keep]
        with refused(InvalidInput, f"the {len(keep)} places to keep", f"{places}", hint="None keeps all"):
            sanitize(*bench.parts, bench.encrypted(x), encoding=encoding, flood_bits=20, mask_bits=20, keep=keep)

    @pytest.mark.parametrize("keep", [[7], (7, 7), np.array([7]), range(7, 8)])
    @pytest.mark.parametrize("encoding", [Encoding.SLOTS, Encoding.COEFFICIENTS])
    def test_any_sequence_names_them(self, bench: Bench, x: NDArray[np.float64], encoding: Encoding, keep: Any) -> None:
        values = x[:SLOTS].copy()
        ciphertext = bench.encrypted(values, encoding=encoding)
        result = sanitize(*bench.parts, ciphertext, encoding=encoding, flood_bits=4, mask_bits=60, keep=keep)
        far = np.abs(bench.decrypted(result, encoding) - bench.decrypted(ciphertext, encoding)) > 2.0**20
        assert not far[7]
        assert np.mean(far) > 0.99


class TestRefusals:
    def test_a_backend_that_rescales_by_itself(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        automatic = msgspec.structs.replace(bench.capabilities, rescale=RescaleMode.AUTOMATIC)
        with refused(CapabilityMissing, "rescales by itself", hint="helora backends"):
            sanitize(
                bench.server, bench.params, automatic, bench.encrypted(x), encoding=Encoding.COEFFICIENTS, flood_bits=20
            )

    def test_a_backend_without_public_keys(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        without = msgspec.structs.replace(bench.capabilities, public_key=False)
        with refused(CapabilityMissing, "public key", hint="public_key"):
            rerandomize(bench.server, bench.params, without, bench.encrypted(x))

    def test_keys_without_a_public_one(self, backend: Backend, refused: Any, x: NDArray[np.float64]) -> None:
        bench = open_bench(backend, public_key=False)
        with refused(CapabilityMissing, "no public key was generated", hint="public_key=True"):
            sanitize(*bench.parts, bench.encrypted(x), encoding=Encoding.COEFFICIENTS, flood_bits=20)

    def test_an_evaluator_that_cannot_encrypt(self, bench: Bench, refused: Any) -> None:
        without = msgspec.structs.replace(bench.capabilities, public_key=False)
        with refused(CapabilityMissing, "cannot encrypt"):
            encryption_of_zero(bench.server, bench.params, without, level=0, scale=SCALE)

    def test_a_scale_that_no_plaintext_can_have(self, bench: Bench, refused: Any) -> None:
        fixed = msgspec.structs.replace(bench.capabilities, free_plaintext_scale=False)
        with refused(CapabilityMissing, "2^30", "2^60.0", hint="Rescale"):
            encryption_of_zero(bench.server, bench.params, fixed, level=0, scale=2.0**60)

    def test_parameters_without_primes(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(x, 0)
        for call in (rerandomize, uniform_mask):
            with refused(InvalidInput, "no primes", hint="resolve"):
                call(bench.server, QUICK, bench.capabilities, ciphertext)
        for encoding in (Encoding.SLOTS, Encoding.COEFFICIENTS):
            with refused(InvalidInput, "no primes", hint="resolve"):
                sanitize(bench.server, QUICK, bench.capabilities, ciphertext, encoding=encoding, flood_bits=20)


class TestLinearOracle:
    """What no sanitising hides: Δ is linear, so that d_in independent inputs give the whole matrix up·down."""

    D = 8

    def test_as_many_queries_as_inputs_give_the_product_of_the_factors_away(self, bench: Bench) -> None:
        rng = np.random.default_rng(6)
        merged = rng.normal(size=(self.D, 2)) @ rng.normal(size=(2, self.D))
        queries = rng.normal(size=(self.D, self.D)) + 4 * np.eye(self.D)
        answers = np.array([self.answer(bench, merged, query) for query in queries])
        found = np.linalg.solve(queries, answers).T
        assert np.max(np.abs(found - merged)) < 1e-3
        # The factors follow up to an invertible matrix of the rank's size.
        assert np.linalg.matrix_rank(found, tol=1e-2) == 2

    def answer(self, bench: Bench, merged: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float64]:
        """merged @ query by diagonals, sanitised, decrypted."""
        period = N // 2 // self.D
        fresh = bench.client.encrypt(np.tile(query, period), scale=2.0**50)
        x = bench.server.deserialize(bench.client.serialize(fresh))
        total = None
        for step in range(self.D):
            diagonal = np.array([merged[i, (i + step) % self.D] for i in range(self.D)])
            encoded = bench.server.encoder.encode(np.tile(diagonal, period), level=TOP, scale=2.0**24)
            term = bench.server.multiply_plain(bench.server.rotate(x, step), encoded)
            total = term if total is None else bench.server.add(total, term)
        result = sanitize(*bench.parts, total, encoding=Encoding.SLOTS, flood_bits=54, mask_bits=94, keep=range(self.D))
        return bench.client.decrypt(result)[: self.D]
