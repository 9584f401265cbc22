"""Results without low bits: rounded to the nearest, without a mean, packed, and refused wherever they are not that."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.backend.primes import distinct_ntt_primes
from helora_core.errors import CorruptPayload, ForeignCiphertext, VersionMismatch
from helora_rns.arrays import aligned_copy, residues
from helora_rns.host import OnHost
from helora_rns.scheme import encoding, fields, wire
from helora_rns.scheme.ciphertexts import Ciphertext, ShortCiphertext
from helora_rns.scheme.context import Context, Parameters, context
from helora_rns.scheme.encryption import Decryptor, Encryptor
from helora_rns.scheme.fields import Kind, Tag
from helora_rns.scheme.keys import SecretKey
from helora_rns.scheme.shortening import restored, shortened

N, SCALE = 1024, 2.0**34
PRIMES = tuple(distinct_ntt_primes((42, 40), N))


@functools.cache
def ring() -> Context:
    return context(Parameters(N, PRIMES, ()))


@functools.cache
def secret() -> SecretKey:
    return SecretKey(ring())


@functools.cache
def result() -> Ciphertext:
    """At level 0; its polynomials are uniform, as those of a clean result."""
    message = encoding.coefficients_of_slots(ring(), np.linspace(-1, 1, N // 2), SCALE)
    sealed = Encryptor(ring(), secret()).encrypt(message, SCALE)
    return Ciphertext(aligned_copy(sealed.values[:, :1]), 0, SCALE)


@pytest.mark.parametrize("prime", [97, 193, 257, 7681])
def test_every_residue_is_rounded_to_the_nearest_multiple_and_no_mean_is_left(prime: int) -> None:
    numbers = np.arange(prime, dtype=np.uint64)
    for bits in range(prime.bit_length()):
        found = numbers.copy()
        OnHost.round_off(found, bits, prime)
        quotients = list(map(int, found))
        assert all(each << bits < prime for each in quotients)
        errors = [((each << bits) - x + prime // 2) % prime - prime // 2 for x, each in enumerate(quotients)]
        assert max(map(abs, errors)) <= 1 << bits >> 1
        # Each multiple has as many residues above as below, those next to the prime apart.
        assert abs(sum(errors)) <= 4**bits / 8 + 2**bits
        assert sum(map(abs, errors)) <= prime * (1 << bits) / 4 + 1


@settings(deadline=None)
@given(bits=st.integers(0, 41), seed=st.integers(0, 2**32 - 1))
def test_large_residues_are_rounded_likewise(bits: int, seed: int) -> None:
    prime, rng = PRIMES[0], np.random.default_rng(seed)
    edges = [0, 1, prime - 1, prime // 2, 1 << 40, (1 << 40) - 1, *(prime - 1 - (1 << each) for each in range(40))]
    numbers = np.array(edges + list(rng.integers(0, prime, 100)), dtype=np.uint64)
    quotients = numbers.copy()
    OnHost.round_off(quotients, bits, prime)
    for x, each in zip(map(int, numbers), map(int, quotients), strict=True):
        assert each << bits < prime
        error = ((each << bits) - x) % prime
        assert min(error, prime - error) <= 1 << bits >> 1


@pytest.mark.parametrize("low_bits", [(1, 0), (0, 1), (14, 5), (20, 20), (41, 41)])
def test_the_message_is_off_by_both_roundings(low_bits: tuple[int, int]) -> None:
    decryptor, short = Decryptor(ring(), secret()), shortened(ring(), result(), low_bits)
    before = aligned_copy(result().values)
    ring().kernels.inverse(before, ring().basis(0))
    first, second = (restored(ring(), short).astype(np.int64) - before.astype(np.int64))[:, 0]
    prime = PRIMES[0]
    off = [np.where(abs(each) > prime // 2, each - np.sign(each) * prime, each) for each in (first, second)]
    assert [int(abs(each).max()) <= 1 << bits >> 1 for each, bits in zip(off, low_bits, strict=True)] == [True, True]
    # Exactly the secret times one, plus the other.
    error = residues((2, 1, N))
    error[:, 0] = np.stack(off) % prime
    ring().kernels.forward(error, ring().basis(0))
    expected = decryptor.residues(Ciphertext(error, 0, SCALE))
    whole = decryptor.residues(result())
    assert (decryptor.residues(short) == (whole + expected) % np.uint64(prime)).all()


@pytest.mark.parametrize("low_bits", [(1, 0), (0, 1), (14, 5), (41, 41), (3, 30)])
def test_messages_have_the_bits_that_are_left(low_bits: tuple[int, int]) -> None:
    short = shortened(ring(), result(), low_bits)
    payload = wire.write_ciphertext(ring(), short)
    sizes = [math.ceil(N * (PRIMES[0].bit_length() - bits) / 8) for bits in low_bits]
    assert sum(sizes) < len(payload) < sum(sizes) + 100
    read = wire.read_ciphertext(ring(), payload)
    assert isinstance(read, ShortCiphertext)
    assert (read.low_bits, read.scale, read.level) == (low_bits, SCALE, 0)
    assert (read.quotients == short.quotients).all()
    assert wire.write_ciphertext(ring(), read) == payload


def _altered(**changes: Callable[[bytes], bytes]) -> bytes:
    payload = wire.write_ciphertext(ring(), shortened(ring(), result(), (14, 5)))
    found = fields.read(Kind.CIPHERTEXT, ring(), payload)
    for name, change in changes.items():
        found[Tag[name]] = change(found.get(Tag[name], b""))
    return fields.written(Kind.CIPHERTEXT, ring(), dict(sorted(found.items())))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (_altered(POLYNOMIALS=lambda sent: sent[:-1]), "bytes are not two polynomials"),
        (_altered(POLYNOMIALS=lambda sent: sent + b"\0"), "bytes are not two polynomials"),
        (_altered(LOW_BITS=lambda _: bytes((13, 5))), "bytes are not two polynomials"),
        (_altered(LOW_BITS=lambda _: bytes((0, 0))), "low bits are missing"),
        (_altered(LOW_BITS=lambda _: bytes((42, 5))), "low bits are missing"),
        (_altered(LOW_BITS=lambda _: bytes((14, 255))), "low bits are missing"),
        (_altered(LOW_BITS=lambda _: b"\x0e"), "low bits are missing"),
        (_altered(LOW_BITS=lambda _: bytes((14, 5, 0))), "low bits are missing"),
        (_altered(LEVEL=lambda _: b"\1"), "low bits are missing"),
        (_altered(SCALE=lambda _: b"\0" * 8), "no such scale"),
        (_altered(SEED=lambda _: b"\0" * 32), "do not belong together"),
        (_altered(POLYNOMIALS=lambda sent: b"\xff" * len(sent)), "not below its prime"),
    ],
)
def test_what_no_result_can_be_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(CorruptPayload, match=why):
        wire.read_ciphertext(ring(), payload)


@settings(deadline=None)
@given(st.data())
def test_altered_bytes_are_refused_or_read_as_a_ciphertext(data: st.DataObject) -> None:
    payload = bytearray(wire.write_ciphertext(ring(), shortened(ring(), result(), (14, 5))))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CorruptPayload, ForeignCiphertext, VersionMismatch):
        read = wire.read_ciphertext(ring(), bytes(payload))
        assert isinstance(read, ShortCiphertext)
        assert int(restored(ring(), read).max()) < PRIMES[0]
