"""Bytes: small, versioned, and refused wherever they are not what they say."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.backend.primes import distinct_ntt_primes
from helora_core.errors import CorruptPayload, ForeignCiphertext, VersionMismatch
from helora_rns.scheme import encoding, sampling, wire
from helora_rns.scheme.context import Context, Parameters, context
from helora_rns.scheme.encryption import Encryptor
from helora_rns.scheme.evaluation import Evaluator
from helora_rns.scheme.fields import Kind, Tag
from helora_rns.scheme.keys import PublicKey, RotationKey, SecretKey

N, KEY_ID = 1024, bytes(range(16))
REFUSALS = (CorruptPayload, ForeignCiphertext, VersionMismatch)


@functools.cache
def ring() -> Context:
    found = distinct_ntt_primes((49, 40, 50), N)
    return context(Parameters(N, found[:2], found[2:]))


@functools.cache
def secret() -> SecretKey:
    return SecretKey(ring())


@functools.cache
def examples() -> dict[Kind, bytes]:
    own = ring()
    sealed = Encryptor(own, secret()).encrypt(encoding.coefficients_of_slots(own, np.ones(3), 2.0**30), 2.0**30)
    rotations, public = [RotationKey.of(own, secret(), step) for step in (1, 7)], PublicKey.of(own, secret())
    return {
        Kind.CIPHERTEXT: wire.write_ciphertext(own, sealed),
        Kind.EVALUATION_KEYS: wire.write_keys(own, wire.EvaluationKeys(KEY_ID, rotations, public)),
        Kind.SECRET_KEY: wire.write_secret(own, wire.KeptKeys(KEY_ID, secret().seed, [1, 7], public)),
    }


READERS = {
    Kind.CIPHERTEXT: wire.read_ciphertext,
    Kind.EVALUATION_KEYS: wire.read_keys,
    Kind.SECRET_KEY: wire.read_secret,
}


def test_ciphertexts_come_back_and_fresh_ones_are_half_as_long() -> None:
    own = ring()
    sealed = Encryptor(own, secret()).encrypt(encoding.coefficients_of_slots(own, np.ones(3), 2.0**30), 2.0**30)
    short = wire.write_ciphertext(own, sealed)
    read = wire.read_ciphertext(own, short)
    assert (read.values == sealed.values).all()
    assert (read.level, read.scale) == (sealed.level, sealed.scale)
    whole = wire.write_ciphertext(own, read)
    assert (wire.read_ciphertext(own, whole).values == sealed.values).all()
    # 49 and 40 bits a residue, and a hundred bytes around them.
    assert len(short) - N * 89 // 8 < 120
    assert len(whole) - 2 * N * 89 // 8 < 90


def test_keys_come_back() -> None:
    own = ring()
    keys = wire.read_keys(own, examples()[Kind.EVALUATION_KEYS])
    assert keys.key_id == KEY_ID
    assert keys.public is not None
    assert Evaluator(own, keys.rotations).steps == {1, 7}
    assert wire.write_keys(own, keys) == examples()[Kind.EVALUATION_KEYS]
    kept = wire.read_secret(own, examples()[Kind.SECRET_KEY])
    assert (SecretKey(own, kept.seed).values == secret().values).all()
    assert wire.write_secret(own, kept) == examples()[Kind.SECRET_KEY]
    assert repr(kept) == "KeptKeys()"


@pytest.mark.parametrize("kind", READERS)
def test_what_is_something_else_is_refused(kind: Kind) -> None:
    for other, payload in examples().items():
        if other is not kind:
            with pytest.raises(CorruptPayload, match="this is no"):
                READERS[kind](ring(), payload)
    with pytest.raises(CorruptPayload, match="not written by"):
        READERS[kind](ring(), bytes(100))
    with pytest.raises(CorruptPayload, match="too few"):
        READERS[kind](ring(), b"HRNS")


@pytest.mark.parametrize("kind", READERS)
def test_another_format_says_which(kind: Kind) -> None:
    payload = bytearray(examples()[kind])
    payload[4] = 9
    with pytest.raises(VersionMismatch, match="format 9"):
        READERS[kind](ring(), bytes(payload))


@pytest.mark.parametrize("kind", READERS)
def test_other_parameters_are_named(kind: Kind) -> None:
    found = distinct_ntt_primes((49, 41, 50), N)
    other = context(Parameters(N, found[:2], found[2:]))
    with pytest.raises(ForeignCiphertext, match="other parameters"):
        READERS[kind](other, examples()[kind])


@pytest.mark.parametrize("kind", READERS)
def test_cut_or_longer_bytes_are_refused(kind: Kind) -> None:
    payload = examples()[kind]
    for cut in (*range(0, 120), len(payload) // 2, len(payload) - 1):
        with pytest.raises(CorruptPayload):
            READERS[kind](ring(), payload[:cut])
    with pytest.raises(CorruptPayload):
        READERS[kind](ring(), payload + b"\0")


def test_residues_beyond_their_prime_are_refused() -> None:
    payload = bytearray(examples()[Kind.CIPHERTEXT])
    payload[-100:] = b"\xff" * 100
    with pytest.raises(CorruptPayload, match="not below its prime"):
        wire.read_ciphertext(ring(), bytes(payload))


@pytest.mark.parametrize("steps", [(7, 1), (1, 1), (0, 1), (1, 512)])
def test_steps_that_no_key_can_be_for_are_refused(steps: tuple[int, int]) -> None:
    good = np.array([1, 7], dtype="<u4").tobytes()
    payload = examples()[Kind.EVALUATION_KEYS].replace(good, np.array(steps, dtype="<u4").tobytes(), 1)
    with pytest.raises(CorruptPayload, match="steps"):
        wire.read_keys(ring(), payload)


@pytest.mark.parametrize(
    ("tag", "value"),
    [(Tag.LEVEL, b"\x02"), (Tag.LEVEL, b"\0\0"), (Tag.SCALE, np.float64(-1).tobytes()),
     (Tag.SCALE, np.float64("nan").tobytes()), (Tag.SCALE, np.float64("inf").tobytes()), (Tag.SCALE, b""),
     (Tag.SEED, bytes(31)), (Tag.KEY_ID, bytes(16)), (Tag.POLYNOMIALS, b"")],
)  # fmt: skip
def test_fields_are_checked(tag: Tag, value: bytes) -> None:
    from helora_rns.scheme import fields

    own = ring()
    found = fields.read(Kind.CIPHERTEXT, own, examples()[Kind.CIPHERTEXT])
    changed = fields.written(Kind.CIPHERTEXT, own, dict(sorted({**found, tag: value}.items())))
    with pytest.raises(CorruptPayload):
        wire.read_ciphertext(own, changed)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(list(READERS)), data=st.data())
def test_no_bytes_crash_a_reader(kind: Kind, data: st.DataObject) -> None:
    """Whatever is altered, it is read or refused by name."""
    payload = bytearray(examples()[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of the structure is at the beginning.
        at = data.draw(st.one_of(st.integers(0, 150), st.integers(0, len(payload) - 1)))
        payload[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(*REFUSALS):
        READERS[kind](ring(), bytes(payload))


def test_seeds_have_one_length() -> None:
    assert len(sampling.fresh_seed()) == sampling.SEED_BYTES == 32
