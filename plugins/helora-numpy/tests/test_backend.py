"""The emulation's promises beyond the laws of every backend: reproducible runs, and a size check on every result."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.residues import values_of
from helora_core.errors import CorruptPayload, HeloraError, InvalidParameters, PrecisionLost
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import rescale_std
from helora_core.params.presets import FAST
from helora_numpy import polynomials
from helora_numpy.backend import NumPyBackend

BACKEND = checked(NumPyBackend())
PARAMS = BACKEND.resolve(CKKSParams(ring_degree=1024, data_bits=(40, 30, 30), special_bits=(40,), scale_bits=30))
V = np.linspace(-4, 4, PARAMS.slots)
SCALE = 2.0**30


def run(seed: int | None) -> tuple[Any, ...]:
    """Every source of noise once."""
    decryptor, evaluator = BACKEND.generate_keys(PARAMS, (1,), public_key=True, seed=seed)
    fresh = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(V, scale=SCALE)))
    product = evaluator.multiply_plain(fresh, evaluator.encoder.encode(V, level=2, scale=SCALE))
    results = (fresh, evaluator.encrypt_public(V, scale=SCALE), product, evaluator.rotate(fresh, 1))
    results += (evaluator.rescale(product),)
    return tuple(decryptor.decrypt(result) for result in results)


def test_a_seed_reproduces_every_noise() -> None:
    for first, again, other in zip(run(7), run(7), run(8), strict=True):
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_without_a_seed_no_two_runs_are_alike() -> None:
    for first, second in zip(run(None), run(None), strict=True):
        assert not np.array_equal(first, second)


def test_a_seed_does_not_make_two_key_pairs_one() -> None:
    assert BACKEND.generate_keys(PARAMS, (), seed=7)[0].key_id != BACKEND.generate_keys(PARAMS, (), seed=7)[0].key_id


def test_client_and_server_do_not_draw_the_same_noise() -> None:
    decryptor, evaluator = BACKEND.generate_keys(PARAMS, (), public_key=True, seed=7)
    client = decryptor.decrypt(decryptor.encrypt(V, scale=SCALE)) - V
    server = decryptor.decrypt(evaluator.encrypt_public(V, scale=SCALE)) - V
    assert abs(np.corrcoef(client, server)[0, 1]) < 0.3


def test_resolve_gives_distinct_ntt_primes_of_the_lengths_asked_for() -> None:
    resolved = BACKEND.resolve(FAST)
    primes = resolved.data_primes + resolved.special_primes
    assert len(set(primes)) == 4
    assert all(prime % (2 * FAST.ring_degree) == 1 for prime in primes)
    assert tuple(prime.bit_length() for prime in primes) == FAST.data_bits + FAST.special_bits
    assert BACKEND.resolve(resolved) == resolved


def test_primes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InvalidParameters, match="too few primes"):
        BACKEND.resolve(CKKSParams(ring_degree=32768, data_bits=(17, 17), special_bits=(17,), scale_bits=16))


def test_sums_and_products_that_outgrow_the_modulus_are_refused() -> None:
    """A real library wraps them around silently."""
    decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
    ciphertext = decryptor.encrypt(np.full(3, 1.0), scale=2.0**97)
    ciphertext = evaluator.add(ciphertext, ciphertext)
    with pytest.raises(PrecisionLost, match="wrap around the 100-bit modulus"):
        evaluator.add(ciphertext, ciphertext)
    large = decryptor.encrypt(np.full(3, 2.0**20), scale=SCALE)
    factor = evaluator.encoder.encode(np.full(3, 2.0**20), level=2, scale=SCALE)
    with pytest.raises(PrecisionLost):
        evaluator.multiply_plain(large, factor)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"HNPY",
        struct.pack("<4sHd", b"HNPY", 3, SCALE),
        struct.pack("<4sHd", b"HNPX", 2, SCALE),
        struct.pack("<4sHd", b"HNPY", 2, math.nan),
        struct.pack("<4sHd", b"HNPY", 2, -1.0),
        struct.pack("<4sHd", b"HNPY", 2, 1e300),
    ],
    ids=["empty", "magic alone", "level", "magic", "scale not a number", "scale negative", "scale too large"],
)
def test_bytes_that_are_no_ciphertext_are_refused(payload: bytes) -> None:
    decryptor, _ = BACKEND.generate_keys(PARAMS, ())
    body = b"" if len(payload) < 14 else np.zeros(PARAMS.slots, dtype="<c16").tobytes()
    for candidate in (payload + body, payload + body + b"\0"):
        with pytest.raises(CorruptPayload):
            decryptor.deserialize(candidate)


def test_values_in_a_payload_are_finite() -> None:
    decryptor, _ = BACKEND.generate_keys(PARAMS, ())
    values = np.zeros(PARAMS.slots, dtype="<c16")
    values[5] = np.nan
    with pytest.raises(CorruptPayload):
        decryptor.deserialize(struct.pack("<4sHd", b"HNPY", 2, SCALE) + values.tobytes())


def test_ciphertexts_cannot_be_written_to() -> None:
    decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
    for ciphertext in (decryptor.encrypt(V, scale=SCALE), evaluator.rescale(decryptor.encrypt(V, scale=2.0**60))):
        with pytest.raises(ValueError, match="read-only"):
            ciphertext.data.values[0] = 1
        with pytest.raises(AttributeError):
            ciphertext.level = 2  # type: ignore[misc]


def test_unresolved_parameters_are_refused_rather_than_misjudged() -> None:
    nominal = msgspec.structs.replace(PARAMS, data_primes=(), special_primes=())
    with pytest.raises(HeloraError):
        BACKEND.generate_keys(nominal, (1,))[0].encrypt(V, scale=SCALE)


class TestIntegersModuloQ:
    """Values encrypted as integers wrap around, as in every library; values encrypted in slots are refused."""

    N = PARAMS.ring_degree
    Q = math.prod(PARAMS.data_primes)

    def encrypted(self, decryptor: Any, share: float) -> Any:
        """An encryption of the integer Q·share in every coefficient."""
        integer = int(Fraction(share) * self.Q)
        residues = np.array([[integer % prime] * self.N for prime in PARAMS.data_primes], dtype=np.uint64)
        return decryptor.encrypt(residues, scale=SCALE, encoding=Encoding.INTEGERS)

    def shares(self, decryptor: Any, ciphertext: Any) -> Any:
        """The coefficients closest to zero, divided by Q."""
        residues = decryptor.decrypt(ciphertext, encoding=Encoding.INTEGERS)
        return values_of(residues, PARAMS.data_primes, 1.0) / self.Q

    def test_sums_wrap_to_the_residue_of_least_size(self) -> None:
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        ciphertext = self.encrypted(decryptor, 0.4)
        for share in (0.4, -0.2, -0.4, 0.2):
            received = evaluator.deserialize(evaluator.serialize(ciphertext))
            np.testing.assert_allclose(self.shares(decryptor, received), share, rtol=0, atol=1e-12)
            ciphertext = evaluator.add(ciphertext, ciphertext)

    def test_slots_of_them_are_those_of_the_coefficients_of_least_size(self) -> None:
        """Read as slots, and rotated, they are as in any library."""
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, (1,))
        ciphertext = self.encrypted(decryptor, 1 - 2.0**-20)
        slots = coefficients_to_slots(np.full(self.N, -(2.0**-20) * self.Q / SCALE), self.N)
        largest = np.max(np.abs(slots))
        for found, expected in ((ciphertext, slots), (evaluator.rotate(ciphertext, 1), np.roll(slots, -1))):
            decrypted = decryptor.decrypt(found, encoding=Encoding.COMPLEX_SLOTS)
            np.testing.assert_allclose(decrypted, expected, rtol=0, atol=2.0**-40 * largest)

    def test_what_was_encoded_in_slots_still_may_not_outgrow_the_modulus(self) -> None:
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        quarter = np.array([0.26 * self.Q / SCALE])
        with pytest.raises(PrecisionLost):
            evaluator.encoder.encode(quarter * 2, level=2, scale=SCALE, encoding=Encoding.SCALAR)
        ciphertext = decryptor.encrypt(quarter, scale=SCALE, encoding=Encoding.SCALAR)
        with pytest.raises(PrecisionLost):
            evaluator.add(ciphertext, ciphertext)

    def test_residues_beyond_their_primes_are_no_ciphertext(self) -> None:
        decryptor, _ = BACKEND.generate_keys(PARAMS, ())
        payload = bytearray(decryptor.serialize(self.encrypted(decryptor, 0.1)))
        decryptor.deserialize(bytes(payload))
        for row, prime in enumerate(PARAMS.data_primes):
            damaged = payload.copy()
            struct.pack_into("<Q", damaged, 14 + 8 * (row * self.N + 5), prime)
            with pytest.raises(CorruptPayload):
                decryptor.deserialize(bytes(damaged))

    @pytest.mark.parametrize("level", [0, 1, 3])
    def test_neither_are_residues_of_another_level(self, level: int) -> None:
        decryptor, _ = BACKEND.generate_keys(PARAMS, ())
        payload = bytearray(decryptor.serialize(self.encrypted(decryptor, 0.1)))
        struct.pack_into("<H", payload, 4, level)
        with pytest.raises(CorruptPayload):
            decryptor.deserialize(bytes(payload))

    @given(st.lists(st.integers(0, Q - 1), min_size=8, max_size=8))
    def test_rescaled_ones_are_divided_and_rounded_to_the_closest(self, some: list[int]) -> None:
        """Exactly, before the noise of a rescale is added: rounding down would be half a unit too small on average."""
        integers = some * (self.N // 8)
        last = PARAMS.data_primes[-1]
        residues = np.array([[each % prime for each in integers] for prime in PARAMS.data_primes], dtype=np.uint64)
        divided = polynomials.divide_by_last(polynomials.transformed(residues, PARAMS), PARAMS)
        expected = [(2 * each + last) // (2 * last) for each in integers]
        for row, prime in zip(polynomials.coefficients(divided, PARAMS), PARAMS.data_primes[:-1], strict=True):
            assert row.tolist() == [each % prime for each in expected]

    def test_they_get_the_noise_of_a_rescale(self) -> None:
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        rescaled = evaluator.rescale(self.encrypted(decryptor, 0.0))
        noise = values_of(decryptor.decrypt(rescaled, encoding=Encoding.INTEGERS), PARAMS.data_primes[:-1], 1.0)
        assert np.std(noise) == pytest.approx(rescale_std(self.N) / math.sqrt(self.N / 2), rel=0.15)
