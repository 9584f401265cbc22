"""Scales that core tracks for a library that has only one; the whole kit also tests such a double."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.checked import CheckedDecryptor, CheckedEncoder
from helora_core.backend.checked_evaluator import CheckedEvaluator
from helora_core.errors import CorruptPayload, ForeignCiphertext, InvalidInput, PrecisionLost, ScaleMismatch
from helora_core.params.ckks import CKKSParams

UNIT = 2.0**20
PRIMES = (2**40 + 15, 2**30 + 3, 2**31 + 11)
PARAMS = CKKSParams(ring_degree=1024, data_bits=(41, 31, 32), special_bits=(), scale_bits=30, data_primes=PRIMES)
TOP = PARAMS.max_level


class Exact:
    """A library of integers without noise, which knows one scale: a ciphertext is (level, integers)."""

    key_id = bytes(16)
    rotation_steps = (1, 2)
    has_public_key = True

    def level(self, ciphertext: Any) -> int:
        level: int = ciphertext[0]
        return level

    def scale(self, ciphertext: Any) -> float:
        return UNIT

    def serialize(self, ciphertext: Any) -> bytes:
        return bytes([ciphertext[0]]) + np.asarray(ciphertext[1], dtype=np.float64).tobytes()

    def deserialize(self, payload: bytes) -> Any:
        return payload[0], np.frombuffer(payload[1:], dtype=np.float64)

    def encrypt(self, values: Any, *, scale: float, encoding: Encoding = Encoding.SLOTS) -> Any:
        return TOP, self.encode(values, level=TOP, scale=scale)

    encrypt_public = encrypt

    def decrypt(self, ciphertext: Any, *, encoding: Encoding = Encoding.SLOTS) -> Any:
        return ciphertext[1] / UNIT

    def encode(self, values: Any, *, level: int, scale: float, encoding: Encoding = Encoding.SLOTS) -> Any:
        assert scale == UNIT, "it was asked for a scale that it does not have"
        return np.rint(values * UNIT)

    def add(self, left: Any, right: Any) -> Any:
        return left[0], left[1] + right[1]

    def multiply_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return ciphertext[0], ciphertext[1] * plaintext

    def add_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return ciphertext[0], ciphertext[1] + plaintext

    def rescale(self, ciphertext: Any) -> Any:
        return ciphertext[0] - 1, ciphertext[1] / PRIMES[ciphertext[0]]

    def evaluation_keys(self) -> bytes:
        return b""


CAPABILITIES = Capabilities(encodings=frozenset({Encoding.SLOTS}), public_key=True)
LIBRARY: Any = Exact()
ENCODER = CheckedEncoder(LIBRARY, PARAMS, CAPABILITIES, (Exact, "exact", PARAMS), UNIT)
CLIENT = CheckedDecryptor(LIBRARY, ENCODER)
SERVER = CheckedEvaluator(LIBRARY, ENCODER)

scale_bits = st.integers(5, 50)
values_of = st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=8).map(np.array)


@settings(deadline=None)
@given(x=values_of, w=values_of, x_bits=scale_bits, w_bits=scale_bits)
def test_a_product_has_the_integers_of_its_scales(x: NDArray[Any], w: NDArray[Any], x_bits: int, w_bits: int) -> None:
    """As in a library with scales of its own: round(x·s)·round(w·t), at scale s·t, to the last bit."""
    size = min(x.size, w.size)
    ciphertext = CLIENT.encrypt(x[:size], scale=2.0**x_bits)
    plaintext = ENCODER.encode(w[:size], level=TOP, scale=2.0**w_bits)
    product = SERVER.multiply_plain(ciphertext, plaintext)
    assert SERVER.scale(product) == 2.0 ** (x_bits + w_bits)
    integers = np.rint(x[:size] * 2.0**x_bits) * np.rint(w[:size] * 2.0**w_bits)
    assert np.array_equal(product.data[1], integers)
    assert np.array_equal(CLIENT.decrypt(product), integers / 2.0 ** (x_bits + w_bits))


@settings(deadline=None)
@given(x=values_of, bits=st.integers(35, 60))
def test_a_rescale_divides_the_scale_by_its_prime_and_leaves_the_value(x: NDArray[Any], bits: int) -> None:
    lower = fresh = CLIENT.encrypt(x, scale=2.0**bits)
    for level in range(TOP, 0, -1):
        expected = SERVER.scale(lower) / PRIMES[level]
        lower = SERVER.rescale(lower)
        assert (SERVER.level(lower), SERVER.scale(lower)) == (level - 1, expected)
        np.testing.assert_allclose(CLIENT.decrypt(lower), CLIENT.decrypt(fresh), rtol=1e-12)


@settings(deadline=None)
@given(x=values_of, bits=scale_bits, divided=st.booleans())
def test_a_scale_travels_with_the_ciphertext(x: NDArray[Any], bits: int, divided: bool) -> None:
    ciphertext = CLIENT.encrypt(x, scale=2.0**bits)
    if divided:
        ciphertext = SERVER.rescale(ciphertext)
    received = CLIENT.deserialize(SERVER.serialize(ciphertext))
    assert CLIENT.scale(received) == SERVER.scale(ciphertext)
    assert np.array_equal(CLIENT.decrypt(received), CLIENT.decrypt(ciphertext))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 2.0**200])
def test_bytes_of_a_scale_that_no_ciphertext_has_are_refused(scale: float) -> None:
    payload = CLIENT.serialize(CLIENT.encrypt(np.ones(1), scale=2.0**30))
    for damaged in (struct.pack("<d", scale) + payload[8:], payload[:5], b""):
        with pytest.raises(CorruptPayload):
            SERVER.deserialize(damaged)


def test_scales_that_differ_in_the_last_bit_are_refused() -> None:
    left = CLIENT.encrypt(np.ones(1), scale=2.0**30)
    right = CLIENT.encrypt(np.ones(1), scale=math.nextafter(2.0**30, math.inf))
    with pytest.raises(ScaleMismatch):
        SERVER.add(left, right)
    with pytest.raises(ScaleMismatch):
        SERVER.add_plain(left, ENCODER.encode(np.ones(1), level=TOP, scale=right.scale))


def test_the_scale_of_a_product_must_fit_its_level() -> None:
    ciphertext = CLIENT.encrypt(np.ones(1), scale=2.0**60)
    assert SERVER.multiply_plain(ciphertext, ENCODER.encode(np.ones(1), level=TOP, scale=2.0**40))
    with pytest.raises(PrecisionLost):
        SERVER.multiply_plain(ciphertext, ENCODER.encode(np.ones(1), level=TOP, scale=2.0**42))


@pytest.mark.parametrize("scale", [0.0, -(2.0**20), math.nan, math.inf])
def test_what_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(InvalidInput):
        CLIENT.encrypt(np.ones(1), scale=scale)
    with pytest.raises(InvalidInput):
        ENCODER.encode(np.ones(1), level=TOP, scale=scale)


def test_values_beyond_doubles_at_their_scale_are_refused_as_too_large() -> None:
    with pytest.raises(PrecisionLost):
        ENCODER.encode(np.full(1, 1e300), level=TOP, scale=2.0**60)


def test_what_the_library_made_is_foreign_without_its_scale() -> None:
    bare = LIBRARY.encrypt(np.ones(1), scale=UNIT)
    mine = CLIENT.encrypt(np.ones(1), scale=UNIT)
    for operation in (lambda: SERVER.level(bare), lambda: CLIENT.decrypt(bare), lambda: SERVER.add(mine, bare)):
        with pytest.raises(ForeignCiphertext):
            operation()
    with pytest.raises(ForeignCiphertext):
        SERVER.multiply_plain(mine, LIBRARY.encode(np.ones(1), level=TOP, scale=UNIT))


def test_optional_abilities_have_the_scales_too() -> None:
    class Able(Exact):
        def rotate_many(self, ciphertext: Any, steps: Any) -> list[Any]:
            return [ciphertext for _ in steps]

        def dot_plain(self, ciphertexts: Any, plaintexts: Any) -> Any:
            return ciphertexts[0][0], sum(c[1] * p for c, p in zip(ciphertexts, plaintexts, strict=True))

        def encrypt_many(self, many: Any, *, scale: float, encoding: Encoding = Encoding.SLOTS) -> list[Any]:
            return [self.encrypt(values, scale=scale) for values in many]

        def decrypt_many(self, ciphertexts: Any, *, encoding: Encoding = Encoding.SLOTS) -> list[Any]:
            return [self.decrypt(ciphertext) for ciphertext in ciphertexts]

    library: Any = Able()
    client, server = CheckedDecryptor(library, ENCODER), CheckedEvaluator(library, ENCODER)
    assert (SERVER.hoists, SERVER.fuses, server.hoists, server.fuses) == (False, False, True, True)
    ciphertext, other = client.encrypt_many([np.full(1, 0.5), np.full(1, 0.25)], scale=2.0**30)
    assert [float(values[0]) for values in client.decrypt_many([ciphertext, other])] == [0.5, 0.25]
    assert [server.scale(each) for each in server.rotate_many(ciphertext, (1, 0, 2))] == [2.0**30] * 3
    halves = [ENCODER.encode(np.full(1, 0.5), level=TOP, scale=2.0**25) for _ in range(2)]
    total = server.dot_plain([ciphertext, ciphertext], halves)
    assert (server.scale(total), *client.decrypt(total)) == (2.0**55, 0.5)
    with pytest.raises(ScaleMismatch):
        server.dot_plain([ciphertext] * 2, [halves[0], ENCODER.encode(np.ones(1), level=TOP, scale=2.0**26)])
