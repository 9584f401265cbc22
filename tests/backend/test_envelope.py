"""The envelope: what is put in comes out, and whatever happened on the way is refused by name."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.envelope import PayloadKind, unwrap, wrap
from helora_core.errors import CorruptPayload, ForeignCiphertext

OURS, THEIRS = bytes(range(16)), bytes(range(1, 17))
CIPHERTEXT, KEYS = PayloadKind.CIPHERTEXT, PayloadKind.EVALUATION_KEYS
HEADER_BYTES, CHECKSUM_BYTES = 30, 32
SAMPLE = wrap(CIPHERTEXT, OURS, b"any payload")

key_ids = st.binary(min_size=16, max_size=16)


def envelope(
    *,
    magic: bytes = b"HLRA",
    version: int = 1,
    kind: int = 1,
    length: int | None = None,
    payload: bytes = b"any payload",
) -> bytes:
    """An envelope put together from the documented layout, with a true checksum whatever it says."""
    body = magic + struct.pack(">BB16sQ", version, kind, OURS, len(payload) if length is None else length) + payload
    return body + hashlib.sha256(body).digest()


@given(st.sampled_from(PayloadKind), key_ids, st.binary())
def test_the_payload_comes_out_as_it_went_in(kind: PayloadKind, key_id: bytes, payload: bytes) -> None:
    wrapped = wrap(kind, key_id, payload)
    assert unwrap(kind, key_id, wrapped) == payload
    assert unwrap(kind, None, wrapped) == payload


def test_the_layout_is_the_documented_one() -> None:
    assert envelope() == SAMPLE
    assert len(SAMPLE) == HEADER_BYTES + len(b"any payload") + CHECKSUM_BYTES


@pytest.mark.parametrize("key_id", [OURS, None])
def test_truncation_anywhere_is_refused(key_id: bytes | None) -> None:
    for length in range(len(SAMPLE)):
        with pytest.raises(CorruptPayload):
            unwrap(CIPHERTEXT, key_id, SAMPLE[:length])


@pytest.mark.parametrize("key_id", [OURS, None])
def test_any_flipped_bit_is_refused(key_id: bytes | None) -> None:
    for bit in range(8 * len(SAMPLE)):
        altered = bytearray(SAMPLE)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptPayload):
            unwrap(CIPHERTEXT, key_id, bytes(altered))


@given(st.binary(min_size=200), st.data())
def test_a_flipped_bit_is_refused_in_long_payloads_too(payload: bytes, data: st.DataObject) -> None:
    altered = bytearray(wrap(KEYS, OURS, payload))
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptPayload):
        unwrap(KEYS, OURS, bytes(altered))


@given(st.binary(min_size=1), st.integers(0, len(SAMPLE)))
def test_inserted_bytes_are_refused(extra: bytes, position: int) -> None:
    with pytest.raises(CorruptPayload):
        unwrap(CIPHERTEXT, OURS, SAMPLE[:position] + extra + SAMPLE[position:])


@given(st.binary())
def test_bytes_of_another_origin_are_refused(message: bytes) -> None:
    for candidate in (message, b"HLRA" + message):
        with pytest.raises(CorruptPayload):
            unwrap(CIPHERTEXT, None, candidate)


@pytest.mark.parametrize(("sent", "expected"), [(KEYS, CIPHERTEXT), (CIPHERTEXT, KEYS)])
def test_the_other_kind_is_refused(sent: PayloadKind, expected: PayloadKind) -> None:
    with pytest.raises(CorruptPayload, match=f"expected {expected.name.lower()}"):
        unwrap(expected, OURS, wrap(sent, OURS, b"any payload"))


@pytest.mark.parametrize("kind", [0, 3, 255])
def test_a_kind_that_does_not_exist_is_refused(kind: int) -> None:
    with pytest.raises(CorruptPayload, match=f"found kind {kind}"):
        unwrap(CIPHERTEXT, OURS, envelope(kind=kind))


@pytest.mark.parametrize("magic", [b"HLRB", b"hlra", b"\0\0\0\0"])
def test_another_magic_is_refused_even_under_a_true_checksum(magic: bytes) -> None:
    with pytest.raises(CorruptPayload, match="not a helora payload"):
        unwrap(CIPHERTEXT, OURS, envelope(magic=magic))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_by_its_number(version: int) -> None:
    with pytest.raises(CorruptPayload, match=f"version {version}"):
        unwrap(CIPHERTEXT, OURS, envelope(version=version))


@pytest.mark.parametrize("length", [0, 10, 12, 2**64 - 1])
def test_a_false_length_is_refused_even_under_a_true_checksum(length: int) -> None:
    with pytest.raises(CorruptPayload, match=f"{length} bytes of payload"):
        unwrap(CIPHERTEXT, OURS, envelope(length=length))


@given(key_ids.filter(lambda key_id: key_id != OURS))
def test_an_intact_envelope_for_other_keys_is_foreign(key_id: bytes) -> None:
    with pytest.raises(ForeignCiphertext):
        unwrap(CIPHERTEXT, key_id, SAMPLE)


def test_a_damaged_envelope_for_other_keys_is_corrupt_rather_than_foreign() -> None:
    with pytest.raises(CorruptPayload):
        unwrap(CIPHERTEXT, THEIRS, SAMPLE[:-1] + b"\0")
