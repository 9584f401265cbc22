"""Sanitising does what it says, to the bit, on every backend: what it adds, what it leaves, what it refuses."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend import coefficient_noise
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.coefficient_noise import (
    Integers,
    add_integers,
    centred,
    normal_integers,
    uniform_integers,
)
from helora_core.backend.encodings import checked_native, from_native, native_encoding
from helora_core.backend.protocol import Backend, Decryptor, Evaluator
from helora_core.backend.sanitize import (
    _start_scale,
    encryption_of_zero,
    flooding,
    rerandomize,
    sanitize,
    trim,
    uniform_mask,
)
from helora_core.errors import CapabilityMissing, InvalidInput, LevelExhausted, PrecisionLost, ScaleMismatch
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import public_encryption_std

# Far too small to be secure, and quick for it. The base prime is short enough for masks.
QUICK = CKKSParams(ring_degree=1024, data_bits=(45, 30, 34), special_bits=(48,), scale_bits=30)
N = QUICK.ring_degree
SCALE = 2.0**QUICK.scale_bits
TOP = QUICK.max_level
STEPS = tuple(range(1, 8))


def least(integers: NDArray[np.object_], modulus: int) -> NDArray[np.object_]:
    """The residues of least size."""
    residues: NDArray[np.object_] = (integers + modulus // 2) % modulus - modulus // 2
    return residues


class Bench(NamedTuple):
    """Both roles, and coefficients in and out of them."""

    params: CKKSParams
    capabilities: Capabilities
    client: Decryptor
    server: Evaluator

    @property
    def parts(self) -> tuple[Evaluator, CKKSParams, Capabilities]:
        """What every function of the module is given first."""
        return self.server, self.params, self.capabilities

    def encrypted(self, coefficients: NDArray[np.float64], level: int = TOP) -> Any:
        native, values = checked_native(
            coefficients, Encoding.COEFFICIENTS, self.capabilities, self.params.slots, who="tests"
        )
        fresh = self.client.encrypt(values, scale=SCALE, encoding=native)
        ciphertext = self.server.deserialize(self.client.serialize(fresh))
        while self.server.level(ciphertext) > level:
            at = self.server.level(ciphertext)
            one = self.server.encode(np.ones(1), level=at, scale=2.0**33, encoding=Encoding.SCALAR)
            ciphertext = self.server.rescale(self.server.multiply_plain(ciphertext, one))
        return ciphertext

    def decrypted(self, ciphertext: Any) -> NDArray[np.float64]:
        """Coefficients, in integer units."""
        result = self.client.deserialize(self.server.serialize(ciphertext))
        native = native_encoding(Encoding.COEFFICIENTS, self.capabilities, who="tests")
        values = self.client.decrypt(result, encoding=native)
        values = from_native(values, Encoding.COEFFICIENTS, native, self.capabilities, self.params.slots)
        return values * self.server.scale(ciphertext)

    def residues_added(self, before: Any, after: Any) -> NDArray[np.object_]:
        """What was added to each coefficient, as the residue of least size modulo the level's modulus."""
        modulus = math.prod(self.params.data_primes[: self.server.level(before) + 1])
        ends = [np.array([round(value) for value in self.decrypted(each)], dtype=object) for each in (before, after)]
        return least(ends[1] - ends[0], modulus)


def open_bench(backend: Backend, *, public_key: bool = True) -> Bench:
    params = backend.resolve(QUICK)
    return Bench(params, backend.capabilities, *backend.generate_keys(params, STEPS, public_key=public_key))


@pytest.fixture(scope="module")
def bench(backend: Backend) -> Bench:
    return open_bench(backend)


@pytest.fixture(scope="module")
def x() -> NDArray[np.float64]:
    return np.random.default_rng(1).uniform(-1, 1, size=N)


def floats(integers: Integers) -> NDArray[np.float64]:
    return np.array([float(each) for each in integers.exact()])


class TestIntegers:
    @pytest.mark.parametrize("bits", [0, 1, 30, 46, 47, 90, 140])
    def test_normal_integers_have_the_deviation_asked_for(self, bits: int) -> None:
        noise = floats(normal_integers(16384, bits)) / 2.0**bits
        assert abs(np.mean(noise)) < 0.04
        # At 2^0, rounding to integers adds 1/12.
        assert np.var(noise) == pytest.approx(1 + 4.0**-bits / 12, rel=0.06)
        inside = np.mean(np.abs(noise) < 1)
        assert inside == pytest.approx(0.683, abs=0.02) or bits < 2

    @pytest.mark.parametrize("bits", [50, 90, 96, 140])
    def test_every_bit_below_the_top_is_random(self, bits: int) -> None:
        noise = normal_integers(16384, bits).exact()
        for bit in range(bits - 1):
            assert abs(float(np.mean([each >> bit & 1 for each in noise])) - 0.5) < 0.025, f"bit {bit}"

    @pytest.mark.parametrize("modulus", [2, 3, 1000003, 1 << 48, (1 << 96) + 1, (1 << 158) - 77])
    def test_uniform_integers_are_uniform(self, modulus: int) -> None:
        drawn = uniform_integers(16384, modulus).exact()
        assert min(drawn) >= 0
        assert max(drawn) < modulus
        for part in range(4):
            inside = sum(part * modulus <= 4 * each < (part + 1) * modulus for each in drawn) / len(drawn)
            of_all = (
                len(range(-(-part * modulus // 4), -(-(part + 1) * modulus // 4))) / modulus if modulus < 10 else 0.25
            )
            assert inside == pytest.approx(of_all, abs=0.02)

    @given(st.integers(2, 2**150))
    def test_centred_residues_are_congruent_and_of_least_size(self, modulus: int) -> None:
        drawn = uniform_integers(8, modulus)
        for before, after in zip(drawn.exact(), centred(drawn, modulus).exact(), strict=True):
            assert (before - after) % modulus == 0
            assert -modulus <= 2 * after <= modulus

    def test_all_randomness_is_the_operating_systems(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def counted(size: int) -> bytes:
            asked.append(size)
            return bytes(range(256)) * (size // 256 + 1)

        asked: list[int] = []
        np.random.seed(0)
        first = normal_integers(64, 90).exact()
        np.random.seed(0)
        assert first != normal_integers(64, 90).exact()
        monkeypatch.setattr(secrets, "token_bytes", lambda size: counted(size)[:size])
        assert normal_integers(64, 90).exact() == normal_integers(64, 90).exact()
        assert uniform_integers(64, 1 << 90).exact() == uniform_integers(64, 1 << 90).exact()
        assert sum(asked) >= 2 * (64 * 8 + 64 * 6) + 2 * 64 * 12

    @pytest.mark.parametrize(("bits", "limbs"), [(0, 1), (46, 1), (47, 1), (90, 2), (94, 2), (95, 2), (140, 3)])
    def test_a_flood_is_added_in_few_limbs_that_fit_a_double(self, bits: int, limbs: int) -> None:
        noise = normal_integers(1024, bits)
        assert len(noise.limbs) == limbs
        assert np.max(np.abs(noise.limbs)) < 2**51

    @given(st.integers(1, 140), st.integers(2, 2**140))
    def test_integers_of_different_length_are_chosen_from_by_place(self, bits: int, modulus: int) -> None:
        chosen = np.arange(8) % 3 == 0
        left, right = normal_integers(8, bits), uniform_integers(8, modulus)
        expected = [a if c else b for a, b, c in zip(left.exact(), right.exact(), chosen, strict=True)]
        assert left.where(chosen, right).exact() == expected

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

    def test_integers_are_added_exactly(self, bench: Bench, x: NDArray[np.float64]) -> None:
        """As large as the smallest modulus takes them; decrypting and an emulated encoder round."""
        ciphertext = bench.encrypted(x, 0)
        integers = centred(uniform_integers(N, bench.params.data_primes[0]), bench.params.data_primes[0])
        added = bench.residues_added(ciphertext, add_integers(*bench.parts, ciphertext, integers))
        assert np.max(np.abs(added - np.array(integers.exact(), dtype=object))) <= 8


def program_scales() -> Iterator[tuple[float, tuple[int, ...]]]:
    """Scales as programs make them: powers of two, divided by primes one after the other."""
    primes = (35184372121601, 1073643521, 17179672577)
    for dropped in range(3):
        for bits in (40, 63, 90, 101):
            scale = 2.0**bits
            for prime in reversed(primes[3 - dropped :]):
                scale = scale / prime * 2.0**20
            yield scale, primes[3 - dropped :]


class TestEncryptionOfZero:
    @pytest.mark.parametrize(("scale", "dropped"), list(program_scales()))
    def test_the_scale_to_start_from_leads_to_exactly_the_one_wanted(
        self, scale: float, dropped: tuple[int, ...]
    ) -> None:
        reached = _start_scale(scale, dropped)
        for prime in reversed(dropped):
            reached = reached / prime
        assert reached == scale

    def test_a_scale_that_nothing_leads_to_is_refused(self, refused: Any) -> None:
        # The doubles near scale·prime, just above a power of two, are about twice as far apart as those near the scale.
        prime = round(1.06 * 2**30)
        unreachable = next(
            scale
            for scale in (1.9 + ulp * 2.0**-52 for ulp in range(100))
            if not any(scale * prime * (1 + ulps * 2.0**-53) / prime == scale for ulps in range(-8, 9))
        )
        with refused(ScaleMismatch, "1 rescales", hint="powers of two"):
            _start_scale(unreachable, (prime,))

    @pytest.mark.parametrize("level", range(TOP + 1))
    def test_it_goes_with_ciphertexts_of_that_level_and_scale(
        self, bench: Bench, x: NDArray[np.float64], level: int
    ) -> None:
        ciphertext = bench.encrypted(x, level)
        scale = bench.server.scale(ciphertext)
        zero = encryption_of_zero(*bench.parts, level=level, scale=scale)
        assert bench.server.level(zero) == level
        assert bench.server.scale(zero) == scale
        total = bench.server.add(ciphertext, zero)
        bound = 8 * public_encryption_std(N) / math.sqrt(N / 2)
        assert np.max(np.abs(bench.decrypted(total) - bench.decrypted(ciphertext))) < bound

    def test_it_is_another_one_each_time(self, bench: Bench) -> None:
        one, other = (encryption_of_zero(*bench.parts, level=0, scale=SCALE) for _ in range(2))
        assert bench.server.serialize(one) != bench.server.serialize(other)

    @pytest.mark.parametrize("level", [-1, TOP + 1])
    def test_levels_that_are_not_there_are_refused(self, bench: Bench, refused: Any, level: int) -> None:
        with refused(LevelExhausted, f"level {level}"):
            encryption_of_zero(*bench.parts, level=level, scale=SCALE)


class TestFlooding:
    @pytest.mark.parametrize(("bits", "level"), [(12, 0), (30, 0), (12, TOP), (50, TOP), (96, TOP)])
    def test_the_error_is_what_was_asked_in_coefficients_and_in_slots(
        self, bench: Bench, x: NDArray[np.float64], bits: int, level: int
    ) -> None:
        ciphertext = bench.encrypted(x, level)
        flooded = flooding(*bench.parts, ciphertext, flood_bits=bits)
        noise = bench.residues_added(ciphertext, flooded).astype(float)
        assert np.std(noise) == pytest.approx(2.0**bits, rel=0.12)
        assert abs(np.mean(noise)) < 0.2 * 2.0**bits
        error = bench.client.decrypt(flooded) - bench.client.decrypt(ciphertext)
        asked = 2.0**bits * math.sqrt(N / 2) / bench.server.scale(ciphertext)
        assert np.std(error) == pytest.approx(asked, rel=0.18)

    def test_a_flood_that_wraps_around_is_refused(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(x, 0)
        with refused(PrecisionLost, "flood of 41 bits", "45-bit modulus of level 0"):
            flooding(*bench.parts, ciphertext, flood_bits=41)
        flooding(*bench.parts, ciphertext, flood_bits=39)

    @pytest.mark.parametrize("bits", [-1, 1024])
    def test_sizes_that_are_none_are_refused(
        self, bench: Bench, refused: Any, x: NDArray[np.float64], bits: int
    ) -> None:
        with refused(InvalidInput, f"flood_bits={bits}"):
            flooding(*bench.parts, bench.encrypted(x), flood_bits=bits)


class TestTrim:
    KEEP = tuple(range(31, N, 32))

    @pytest.mark.parametrize("level", [0, TOP])
    def test_what_is_not_kept_is_uniform_modulo_the_whole_modulus(
        self, bench: Bench, x: NDArray[np.float64], level: int
    ) -> None:
        kept = np.isin(np.arange(N), self.KEEP)
        modulus = math.prod(bench.params.data_primes[: level + 1])
        ciphertext = bench.encrypted(x, level)
        added = bench.residues_added(ciphertext, trim(*bench.parts, ciphertext, keep=self.KEEP))
        shares = (added[~kept] / modulus).astype(float)
        assert np.max(np.abs(shares)) > 0.49
        assert abs(np.mean(shares)) < 5 / math.sqrt(12 * shares.size)
        assert np.mean(shares**2) == pytest.approx(1 / 12, abs=5 / math.sqrt(180 * shares.size))
        assert np.max(np.abs(added[kept].astype(float))) < max(8.0, 2.0**-48 * modulus)

    def test_a_bounded_message_needs_no_more_than_its_bound_and_the_statistical_bits(
        self, bench: Bench, x: NDArray[np.float64]
    ) -> None:
        kept = np.isin(np.arange(N), self.KEEP)
        ciphertext = bench.encrypted(x)
        trimmed = trim(*bench.parts, ciphertext, keep=self.KEEP, message_bits=30, statistical_bits=25)
        added = bench.residues_added(ciphertext, trimmed).astype(float)
        assert 0.98 * 2.0**55 < np.max(np.abs(added[~kept])) <= 1.001 * 2.0**55
        assert np.max(np.abs(added[kept])) < 2.0**9

    def test_to_keep_all_changes_nothing(self, bench: Bench, x: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(x)
        assert trim(*bench.parts, ciphertext, keep=None) is ciphertext

    @pytest.mark.parametrize("keep", [(), (-1,), (0, N)])
    def test_positions_that_are_none_are_refused(
        self, bench: Bench, refused: Any, x: NDArray[np.float64], keep: tuple[int, ...]
    ) -> None:
        with refused(InvalidInput, f"the {len(keep)} coefficients to keep", hint="None keeps all"):
            trim(*bench.parts, bench.encrypted(x), keep=keep)


class TestUniformMask:
    def test_the_client_sees_the_message_and_the_mask_modulo_the_prime(
        self, bench: Bench, x: NDArray[np.float64]
    ) -> None:
        ciphertext = bench.encrypted(x, 0)
        prime = bench.params.data_primes[0]
        masked, mask = uniform_mask(*bench.parts, ciphertext)
        assert mask.dtype == np.int64
        assert mask.min() >= 0
        assert mask.max() < prime
        # What re-randomising adds, and nothing else: the masks are exact.
        bound = 8 * public_encryption_std(N) / math.sqrt(N / 2)
        error = least(bench.residues_added(ciphertext, masked) - mask.astype(object), prime)
        assert np.max(np.abs(error)) < bound

    def test_masked_residues_are_uniform_and_unrelated_to_the_message(
        self, bench: Bench, x: NDArray[np.float64]
    ) -> None:
        masked, mask = uniform_mask(*bench.parts, bench.encrypted(x, 0))
        seen = bench.decrypted(masked) / bench.params.data_primes[0]
        assert abs(np.mean(seen)) < 5 / math.sqrt(12 * N)
        assert np.mean(seen**2) == pytest.approx(1 / 12, abs=5 / math.sqrt(180 * N))
        assert abs(np.corrcoef(seen, x)[0, 1]) < 5 / math.sqrt(N)
        assert not np.array_equal(mask, uniform_mask(*bench.parts, bench.encrypted(x, 0))[1])

    def test_masks_modulo_several_primes_are_refused(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        with refused(InvalidInput, "not at level 1", hint="level 0"):
            uniform_mask(*bench.parts, bench.encrypted(x, 1))

    def test_masks_modulo_a_long_prime_are_refused(self, backend: Backend, refused: Any) -> None:
        params = backend.resolve(msgspec.structs.replace(QUICK, data_bits=(47,)))
        client, server = backend.generate_keys(params, (), public_key=True)
        ciphertext = server.deserialize(client.serialize(client.encrypt(np.ones(4), scale=SCALE)))
        with refused(InvalidInput, "47 bits"):
            uniform_mask(server, params, backend.capabilities, ciphertext)


class TestSanitize:
    def test_slots_keep_level_scale_and_value(self, bench: Bench) -> None:
        x = np.random.default_rng(2).normal(size=N // 2)
        ciphertext = bench.server.deserialize(bench.client.serialize(bench.client.encrypt(x, scale=2.0**60)))
        result = sanitize(*bench.parts, ciphertext, flood_bits=40)
        assert bench.server.level(result) == TOP
        assert bench.server.scale(result) == 2.0**60
        error = bench.client.decrypt(result) - x
        assert np.std(error) == pytest.approx(2.0 ** (40 - 60) * math.sqrt(N / 2), rel=0.18)

    def test_coefficients_are_flooded_where_kept_and_masked_elsewhere(
        self, bench: Bench, x: NDArray[np.float64]
    ) -> None:
        keep = range(0, N, 2)
        ciphertext = bench.encrypted(x)
        result = sanitize(*bench.parts, ciphertext, flood_bits=24, keep=keep, message_bits=30, statistical_bits=20)
        added = bench.residues_added(ciphertext, result).astype(float)
        assert np.std(added[::2]) == pytest.approx(2.0**24, rel=0.15)
        assert np.std(added[1::2]) == pytest.approx(2.0**50 / math.sqrt(3), rel=0.1)

    def test_the_same_ciphertext_becomes_another_one_each_time(self, bench: Bench, x: NDArray[np.float64]) -> None:
        ciphertext = bench.encrypted(x)
        first, second = (bench.decrypted(sanitize(*bench.parts, ciphertext, flood_bits=30)) for _ in range(2))
        assert abs(np.corrcoef(first - x * SCALE, second - x * SCALE)[0, 1]) < 5 / math.sqrt(N)


class TestRefusals:
    def test_a_backend_that_rescales_by_itself(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        automatic = msgspec.structs.replace(bench.capabilities, rescale=RescaleMode.AUTOMATIC)
        with refused(CapabilityMissing, "rescales by itself", hint="helora backends"):
            sanitize(bench.server, bench.params, automatic, bench.encrypted(x), flood_bits=20)

    def test_a_backend_without_public_keys(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        without = msgspec.structs.replace(bench.capabilities, public_key=False)
        with refused(CapabilityMissing, "public key", hint="public_key"):
            rerandomize(bench.server, bench.params, without, bench.encrypted(x))

    def test_keys_without_a_public_one(self, backend: Backend, refused: Any, x: NDArray[np.float64]) -> None:
        bench = open_bench(backend, public_key=False)
        with refused(CapabilityMissing, "no public key was generated", hint="public_key=True"):
            sanitize(*bench.parts, bench.encrypted(x), flood_bits=20)

    def test_an_evaluator_that_cannot_encrypt(self, bench: Bench, refused: Any) -> None:
        with refused(CapabilityMissing, "cannot encrypt"):
            encryption_of_zero(object(), bench.params, bench.capabilities, level=0, scale=SCALE)  # type: ignore[arg-type]

    def test_a_scale_that_no_plaintext_can_have(self, bench: Bench, refused: Any) -> None:
        fixed = msgspec.structs.replace(bench.capabilities, free_plaintext_scale=False)
        with refused(CapabilityMissing, "2^30", "2^60.0", hint="Rescale"):
            encryption_of_zero(bench.server, bench.params, fixed, level=0, scale=2.0**60)

    def test_parameters_without_primes(self, bench: Bench, refused: Any, x: NDArray[np.float64]) -> None:
        for call in (rerandomize, uniform_mask):
            with refused(InvalidInput, "no primes", hint="resolve"):
                call(bench.server, QUICK, bench.capabilities, bench.encrypted(x, 0))


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
            encoded = bench.server.encode(np.tile(diagonal, period), level=TOP, scale=2.0**24)
            term = bench.server.multiply_plain(bench.server.rotate(x, step), encoded)
            total = term if total is None else bench.server.add(total, term)
        result = sanitize(*bench.parts, total, flood_bits=54)
        return bench.client.decrypt(result)[: self.D]
