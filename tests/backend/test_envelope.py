"""The envelope: its content comes out unchanged, and any damage on the way is refused by name."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.envelope import Form, PayloadKind, key_id_of, kind_of, opened, unwrap, wrap
from helora_core.backend.origin import UNKNOWN, Origin, origin_of
from helora_core.errors import CorruptPayload, ForeignCiphertext, HeloraError, VersionMismatch

OURS, THEIRS = bytes(range(16)), bytes(range(1, 17))
CIPHERTEXT, KEYS = PayloadKind.CIPHERTEXT, PayloadKind.EVALUATION_KEYS
HEADER_BYTES, CHECKSUM_BYTES = 32, 32
ORIGIN = Origin("tenseal", "tenseal 0.3.16")
SAMPLE = wrap(CIPHERTEXT, OURS, b"any payload", ORIGIN)

key_ids = st.binary(min_size=16, max_size=16)


def envelope(
    *,
    magic: bytes = b"HLRA",
    version: int = 2,
    kind: int = 1,
    length: int | None = None,
    payload: bytes = b"any payload",
    origin: bytes = b"tenseal\ntenseal 0.3.16",
    origin_length: int | None = None,
) -> bytes:
    """An envelope put together from the documented layout, with a true checksum whatever it says."""
    lengths = len(origin) if origin_length is None else origin_length, len(payload) if length is None else length
    body = magic + struct.pack(">BB16sHQ", version, kind, OURS, *lengths) + origin + payload
    return body + hashlib.sha256(body).digest()


@given(st.sampled_from(PayloadKind), key_ids, st.binary())
def test_the_payload_comes_out_as_it_went_in(kind: PayloadKind, key_id: bytes, payload: bytes) -> None:
    wrapped = wrap(kind, key_id, payload)
    assert unwrap(kind, key_id, wrapped) == payload
    assert unwrap(kind, None, wrapped) == payload


def test_the_layout_is_the_documented_one() -> None:
    assert envelope() == SAMPLE
    assert len(SAMPLE) == HEADER_BYTES + len(b"tenseal\ntenseal 0.3.16any payload") + CHECKSUM_BYTES


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


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_a_kind_that_does_not_exist_is_refused(kind: int) -> None:
    with pytest.raises(CorruptPayload, match=f"found kind {kind}"):
        unwrap(CIPHERTEXT, OURS, envelope(kind=kind))


@pytest.mark.parametrize("magic", [b"HLRB", b"hlra", b"\0\0\0\0"])
def test_another_magic_is_refused_even_under_a_true_checksum(magic: bytes) -> None:
    with pytest.raises(CorruptPayload, match="not a helora payload"):
        unwrap(CIPHERTEXT, OURS, envelope(magic=magic))


@pytest.mark.parametrize("version", [0, 1, 3, 255])
def test_another_version_is_refused_by_its_number_and_ours(version: int) -> None:
    with pytest.raises(VersionMismatch, match=f"version {version}; this helora reads version 2"):
        unwrap(CIPHERTEXT, OURS, envelope(version=version))


def test_an_envelope_of_version_1_is_not_called_corrupt() -> None:
    body = b"HLRA" + struct.pack(">BB16sQ", 1, 1, OURS, 3) + b"old"
    with pytest.raises(VersionMismatch, match="version 1; this helora reads version 2"):
        unwrap(CIPHERTEXT, OURS, body + hashlib.sha256(body).digest())


def test_another_version_of_the_library_is_refused_and_both_are_named() -> None:
    with pytest.raises(VersionMismatch, match=r"tenseal 0\.3\.16; tenseal 0\.4\.0"):
        unwrap(CIPHERTEXT, OURS, SAMPLE, origin=Origin("tenseal", "tenseal 0.4.0"))


def test_another_backend_is_refused_and_both_are_named() -> None:
    with pytest.raises(ForeignCiphertext, match=r"backend tenseal; this session's is openfhe"):
        unwrap(CIPHERTEXT, OURS, SAMPLE, origin=Origin("openfhe", "openfhe 1.6"))


def test_who_made_it_is_told() -> None:
    found = opened(CIPHERTEXT, OURS, SAMPLE, origin=ORIGIN)
    assert (found.origin, found.key_id, found.payload) == (ORIGIN, OURS, b"any payload")


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_a_backend_calls_itself_is_carried_and_shown(backend: str, library: str) -> None:
    sent = Origin(backend, library)
    read = opened(KEYS, None, wrap(KEYS, OURS, b"", sent)).origin
    assert read == Origin.decoded(sent.encoded)
    assert read.backend.isprintable()
    assert len(read.library) <= 100


@pytest.mark.parametrize("origin", [b"", b"tenseal", b"a\nb\nc", b"\xff\n\xff", b"a\x1b\nb", b"a\n" + b"b" * 101])
def test_an_origin_that_is_none_is_refused(origin: bytes) -> None:
    with pytest.raises(CorruptPayload, match="which library"):
        unwrap(CIPHERTEXT, OURS, envelope(origin=origin))


@pytest.mark.parametrize("origin_length", [0, 21, 23, 33, 34, 65535])
def test_a_false_length_of_the_origin_is_refused(origin_length: int) -> None:
    with pytest.raises(CorruptPayload):
        unwrap(CIPHERTEXT, OURS, envelope(origin_length=origin_length))


def test_a_backend_says_its_library_or_the_distribution_that_it_comes_in() -> None:
    class Stated:
        name = "acme"
        library_version = "libacme 3"

    class Silent:
        name = "acme"

    assert origin_of(Stated()) == Origin("acme", "libacme 3")
    assert origin_of(Silent()) == Origin("acme", UNKNOWN.library)
    Silent.__module__ = "helora_numpy.backend"
    assert origin_of(Silent()).library.startswith("helora-numpy ")


@pytest.mark.parametrize("size", [12, 70_000])
def test_more_than_the_parameters_can_make_is_refused(size: int) -> None:
    message = wrap(CIPHERTEXT, OURS, bytes(size), ORIGIN)
    assert unwrap(CIPHERTEXT, OURS, message, most_bytes=size) == bytes(size)
    with pytest.raises(CorruptPayload, match="at most"):
        unwrap(CIPHERTEXT, OURS, message, most_bytes=size - 1)


def test_a_message_far_too_long_is_not_even_hashed() -> None:
    with pytest.raises(CorruptPayload, match="at most 10"):
        unwrap(CIPHERTEXT, OURS, b"HLRA" + bytes(1 << 20), most_bytes=10)


@given(st.binary(max_size=300), st.data())
def test_a_changed_envelope_raises_nothing_but_refusals(payload: bytes, data: st.DataObject) -> None:
    """With a true checksum, so that what stands behind it is reached."""
    body = bytearray(wrap(data.draw(st.sampled_from(PayloadKind)), OURS, payload, ORIGIN)[:-CHECKSUM_BYTES])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    with suppress(HeloraError):
        opened(CIPHERTEXT, OURS, bytes(body) + hashlib.sha256(body).digest(), origin=ORIGIN, most_bytes=500)


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


class TestForms:
    """Envelopes of one kind, keys and origin, with what they have in common worked out: they are the same envelopes."""

    @given(st.sampled_from(PayloadKind), key_ids, st.binary(max_size=80))
    def test_they_are_the_same_envelopes(self, kind: PayloadKind, key_id: bytes, payload: bytes) -> None:
        form = Form(kind, key_id, ORIGIN)
        made = form.wrap(payload)
        assert made == wrap(kind, key_id, payload, ORIGIN)
        assert form.unwrap(made, len(payload)) == payload
        assert (kind_of(made), key_id_of(made)) == (kind, key_id)

    @given(data=st.data())
    def test_whatever_else_comes_is_refused_alike(self, data: st.DataObject) -> None:
        other = st.one_of(
            st.binary(max_size=120),
            st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255)).map(
                lambda at: SAMPLE[: at[0]] + bytes([SAMPLE[at[0]] ^ at[1]]) + SAMPLE[at[0] + 1 :]
            ),
            st.integers(0, len(SAMPLE) - 1).map(lambda size: SAMPLE[:size]),
            st.binary(min_size=1, max_size=40).map(lambda more: SAMPLE + more),
            st.builds(envelope, version=st.integers(0, 3), kind=st.integers(0, 9), length=st.integers(0, 40)),
            st.sampled_from([wrap(KEYS, OURS, b"x", ORIGIN), wrap(CIPHERTEXT, THEIRS, b"x", ORIGIN)]),
            st.sampled_from([wrap(CIPHERTEXT, OURS, b"x"), wrap(CIPHERTEXT, OURS, bytes(1000), ORIGIN)]),
        )
        message, most = data.draw(other), data.draw(st.sampled_from([10, 11, 900]))
        with_form, without = (
            _outcome(lambda: Form(CIPHERTEXT, OURS, ORIGIN).unwrap(message, most)),
            _outcome(lambda: unwrap(CIPHERTEXT, OURS, message, origin=ORIGIN, most_bytes=most)),
        )
        assert with_form == without


def _outcome(call: Callable[[], bytes | memoryview]) -> tuple[type, str] | bytes:
    try:
        return bytes(call())
    except HeloraError as error:
        return type(error), str(error)
