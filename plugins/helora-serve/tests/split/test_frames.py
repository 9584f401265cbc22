"""Split frames: what one side encodes the other reads; anything else is refused by name; numbers keep their bits."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import CorruptPayload
from helora_serve.split import frames

NUMBERS = st.integers(1, (1 << 53) - 1)
TEXT = st.text(max_size=50)
RETRY = st.none() | st.floats(0, 1e6)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
SESSION = HEX.map(lambda digits: digits[:32])
SECRET = st.binary(min_size=32, max_size=32)
FROM_CLIENT = st.one_of(
    st.builds(frames.SplitOpen, base=HEX, adapter=st.none() | st.text(min_size=1, max_size=50),
              dtype=st.sampled_from(sorted(frames.DTYPES))),
    st.builds(frames.SplitResume, session=SESSION, token=SECRET, position=NUMBERS),
    st.builds(frames.Forward, request=NUMBERS, position=NUMBERS, tokens=NUMBERS, last=st.booleans()),
    st.builds(frames.Close),
)  # fmt: skip
FROM_SERVER = st.one_of(
    st.builds(frames.SplitWelcome, session=SESSION, token=SECRET, requested=NUMBERS, position=NUMBERS,
              most_tokens=NUMBERS, most_positions=NUMBERS, hidden=NUMBERS, ttl_s=st.floats(0, 1e6),
              mode=st.just("split"), sees=TEXT),
    st.builds(frames.Hidden, request=NUMBERS, tokens=NUMBERS, position=NUMBERS),
    st.builds(frames.SplitRefused, request=NUMBERS, position=NUMBERS, code=TEXT, message=TEXT, hint=TEXT,
              retry_s=RETRY),
    st.builds(frames.Goodbye, code=TEXT, message=TEXT, hint=TEXT, retry_s=RETRY, resumable=st.booleans()),
)  # fmt: skip
BOTH_WAYS = st.one_of(
    FROM_CLIENT.map(lambda header: (header, frames.decode_from_client)),
    FROM_SERVER.map(lambda header: (header, frames.decode_from_server)),
)


def payload_for(header: Any) -> bytes:
    return b"rows" if isinstance(header, (frames.Forward, frames.Hidden)) else b""


@given(BOTH_WAYS)
def test_one_side_reads_what_the_other_encodes(way: Any) -> None:
    header, decode = way
    assert decode(frames.encode(header, payload_for(header))) == (header, payload_for(header))


@given(BOTH_WAYS, st.data())
def test_an_altered_frame_is_read_or_refused_by_name(way: Any, data: Any) -> None:
    header, decode = way
    frame = bytearray(frames.encode(header, payload_for(header)))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read, _ = decode(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    except CorruptPayload:
        return
    assert type(read) in {*get_args(frames.FromSplitClient), *get_args(frames.FromSplitServer)}


@given(st.sampled_from(sorted(frames.DTYPES)), st.integers(1, 5), st.integers(1, 9), st.integers(0, 1 << 32))
def test_numbers_come_as_they_were_sent_and_another_length_is_refused(
    dtype: str, tokens: int, hidden: int, seed: int
) -> None:
    rows = np.random.default_rng(seed).normal(size=(tokens, hidden)).astype(frames.DTYPES[dtype])
    payload = frames.payload_of(rows, dtype)
    assert (frames.rows_of(payload, tokens, hidden, dtype) == rows).all()
    for wrong in (payload[:-1], payload + b"\0"):
        with pytest.raises(CorruptPayload, match="bytes"):
            frames.rows_of(wrong, tokens, hidden, dtype)
