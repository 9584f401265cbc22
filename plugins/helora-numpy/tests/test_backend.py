"""What the emulation promises beyond the laws of every backend: reproducible runs, and a size check on every result."""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import slots_to_coefficients
from helora_core.errors import CorruptPayload, HeloraError, InvalidParameters, PrecisionLost
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_numpy.backend import NumPyBackend

BACKEND = NumPyBackend()
PARAMS = BACKEND.resolve(CKKSParams(ring_degree=1024, data_bits=(40, 30, 30), special_bits=(40,), scale_bits=30))
V = np.linspace(-4, 4, PARAMS.slots)
SCALE = 2.0**30


def run(seed: int | None) -> tuple[Any, ...]:
    """Every source of noise once."""
    decryptor, evaluator = BACKEND.generate_keys(PARAMS, (1,), public_key=True, seed=seed)
    fresh = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(V, scale=SCALE)))
    product = evaluator.multiply_plain(fresh, evaluator.encode(V, level=2, scale=SCALE))
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
    """A real library wraps them around without a word."""
    decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
    ciphertext = decryptor.encrypt(np.full(3, 1.0), scale=2.0**97)
    ciphertext = evaluator.add(ciphertext, ciphertext)
    with pytest.raises(PrecisionLost, match="wrap around the 100-bit modulus"):
        evaluator.add(ciphertext, ciphertext)
    large = decryptor.encrypt(np.full(3, 2.0**20), scale=SCALE)
    factor = evaluator.encode(np.full(3, 2.0**20), level=2, scale=SCALE)
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
            ciphertext.values[0] = 1
        with pytest.raises(AttributeError):
            ciphertext.level = 2  # type: ignore[misc]


def test_unresolved_parameters_are_refused_rather_than_misjudged() -> None:
    nominal = msgspec.structs.replace(PARAMS, data_primes=(), special_primes=())
    with pytest.raises(HeloraError):
        BACKEND.generate_keys(nominal, (1,))[0].encrypt(V, scale=SCALE)


class TestIntegersModuloQ:
    """What was encrypted as coefficients wraps around, as in every library; what was encrypted in slots is refused."""

    Q = math.prod(PARAMS.data_primes)

    def test_sums_wrap_to_the_residue_of_least_size(self) -> None:
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        unit = self.Q / 8 / SCALE
        ciphertext = decryptor.encrypt(np.array([1.9, -1.9, 0.5]) * unit, scale=SCALE, encoding=Encoding.COEFFICIENTS)
        for _ in range(2):
            ciphertext = evaluator.add(ciphertext, ciphertext)
        ciphertext = evaluator.deserialize(evaluator.serialize(ciphertext))
        decrypted = decryptor.decrypt(ciphertext, encoding=Encoding.COEFFICIENTS)
        assert np.allclose(decrypted[:4] / unit, [-0.4, 0.4, 2.0, 0.0], atol=1e-9)

    def test_multiples_of_the_modulus_vanish_in_a_product_with_integers(self) -> None:
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        quarter = np.array([self.Q / 8 / SCALE])
        ciphertext = decryptor.encrypt(quarter, scale=SCALE, encoding=Encoding.COEFFICIENTS)
        factor = evaluator.encode(np.array([0.0, 8.0]), level=2, scale=1.0, encoding=Encoding.COEFFICIENTS)
        product = decryptor.decrypt(evaluator.multiply_plain(ciphertext, factor), encoding=Encoding.COEFFICIENTS)
        assert np.abs(product * SCALE).max() < 2**-45 * self.Q

    def test_plaintexts_are_rounded_to_integers(self) -> None:
        _, evaluator = BACKEND.generate_keys(PARAMS, ())
        plaintext = evaluator.encode(np.array([0.3, 1.7]), level=0, scale=1.0, encoding=Encoding.COEFFICIENTS)
        assert np.allclose(slots_to_coefficients(plaintext.values, PARAMS.ring_degree)[:2], [0.0, 2.0])

    def test_coefficients_beyond_a_quarter_of_the_modulus_are_refused(self) -> None:
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        large = np.array([0.26 * self.Q / SCALE])
        with pytest.raises(PrecisionLost):
            decryptor.encrypt(large, scale=SCALE, encoding=Encoding.COEFFICIENTS)
        with pytest.raises(PrecisionLost):
            evaluator.encode(large, level=2, scale=SCALE, encoding=Encoding.COEFFICIENTS)
