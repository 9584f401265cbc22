"""Whatever comes instead of a message is refused by name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helora_core.errors import CorruptPayload
from helora_core.parties.key_bundle import read_bundle
from helora_core.parties.messages import Download, MaskedDownload, MaskedUpload, Upload, decode, encode

UPLOAD = encode(Upload(b"i" * 16, 0, ("layer.q_proj",), ("d" * 64,), 1, b"", ((b"ct",),)))


@given(payload=st.binary(max_size=200))
@example(payload=b"\xa5\x00\x00\x00\x00\x80")  # text that is not UTF-8
@example(payload=b"\x91" * 100_000)  # deeper than any stack
def test_bytes_that_are_no_message_are_corrupt(payload: bytes) -> None:
    for kind in (Upload, Download, MaskedUpload, MaskedDownload):
        with pytest.raises(CorruptPayload):
            decode(payload, kind)
    with contextlib.suppress(CorruptPayload):  # a list of other bytes may be keys for all that it knows
        read_bundle(payload, [8])


@given(place=st.integers(0, len(UPLOAD) - 1), byte=st.integers(0, 255))
def test_an_upload_with_a_changed_byte_is_read_or_corrupt(place: int, byte: int) -> None:
    """Read, it is another message, which its session refuses; nothing else is raised."""
    with contextlib.suppress(CorruptPayload):
        assert isinstance(decode(UPLOAD[:place] + bytes([byte]) + UPLOAD[place + 1 :], Upload), Upload)


def test_a_name_that_is_not_text_is_corrupt() -> None:
    with pytest.raises(CorruptPayload, match="not UTF-8"):
        decode(UPLOAD.replace(b"layer", b"la\x80er"), Upload)
