"""Frames: what one side encodes the other reads; anything else is refused by name; the schema is what the code has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import CorruptPayload
from helora_serve import frames
from helora_serve.schema import schema
from helora_serve.split import frames as split_frames

DOCS = Path(__file__).parents[3] / "docs"
NUMBERS = st.integers(1, (1 << 53) - 1)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
TEXT = st.text(max_size=50)
RETRY = st.none() | st.floats(0, 1e6)
FROM_CLIENT = st.one_of(
    st.builds(frames.Open, version=HEX, keys=HEX),
    st.builds(frames.Resume, session=HEX.map(lambda x: x[:32]), token=st.binary(min_size=32, max_size=32),
              received=NUMBERS),
    st.builds(frames.Ask, request=NUMBERS, received=NUMBERS),
    st.builds(frames.Ack, received=NUMBERS),
    st.builds(frames.Close),
)  # fmt: skip
FROM_SERVER = st.one_of(
    st.builds(frames.Answer, number=NUMBERS, request=NUMBERS),
    st.builds(frames.Refused, number=NUMBERS, request=NUMBERS, code=TEXT, message=TEXT, hint=TEXT, retry_s=RETRY),
    st.builds(frames.Goodbye, code=TEXT, message=TEXT, hint=TEXT, retry_s=RETRY, resumable=st.booleans()),
    st.builds(frames.Notice, queries=NUMBERS, limit=st.none() | NUMBERS, share_of_copy=st.floats(0, 1e6)),
)


def payload_for(header: Any) -> bytes:
    return b"payload" if isinstance(header, (frames.Ask, frames.Answer)) else b""


@given(FROM_CLIENT)
def test_a_server_reads_what_a_client_encodes(header: Any) -> None:
    payload = payload_for(header)
    assert frames.decode_from_client(frames.encode(header, payload)) == (header, payload)


@given(FROM_SERVER)
def test_a_client_reads_what_a_server_encodes(header: Any) -> None:
    payload = payload_for(header)
    assert frames.decode_from_server(frames.encode(header, payload)) == (header, payload)


@given(st.binary(max_size=200))
def test_noise_is_refused_by_name(noise: bytes) -> None:
    for decode in (frames.decode_from_client, frames.decode_from_server):
        with pytest.raises(CorruptPayload):
            decode(noise)


@given(FROM_CLIENT, st.data())
def test_an_altered_frame_is_read_or_refused_by_name(header: Any, data: Any) -> None:
    frame = bytearray(frames.encode(header, payload_for(header)))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    try:
        read, _ = frames.decode_from_client(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    except CorruptPayload:
        return
    assert type(read) in get_args(frames.FromClient)


def test_a_payload_belongs_to_requests_and_answers_only() -> None:
    for header, payload in ((frames.Ack(received=1), b"x"), (frames.Ask(request=1, received=0), b"")):
        with pytest.raises(CorruptPayload, match="payload"):
            frames.decode_from_client(frames.encode(header, payload))


def test_the_schema_in_the_documentation_is_that_of_the_code() -> None:
    written = json.loads((DOCS / "protocol-schema.json").read_text("utf-8"))
    assert written == schema(), "run: python -m helora_serve.schema docs/protocol-schema.json"


def test_every_header_and_document_is_in_the_schema() -> None:
    names = set(schema()["$defs"])
    unions = (frames.FromClient, frames.FromServer, split_frames.FromSplitClient, split_frames.FromSplitServer)
    headers = {each.__name__ for kind in unions for each in get_args(kind)}
    assert names >= headers | {"OfferDocument", "RefusalDocument", "SplitOffer", "ModesDocument", "Comparison"}
