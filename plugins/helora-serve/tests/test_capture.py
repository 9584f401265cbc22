"""The search for private things in recorded bytes finds them wherever they are, and reads WebSockets."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_serve.capture import found, messages

HEAD = b"GET /v1/delta HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"


@given(st.lists(st.binary(min_size=6, max_size=40), min_size=1, max_size=8), st.data())
def test_what_is_in_the_bytes_is_found_and_nothing_else(needles: list[bytes], data: st.DataObject) -> None:
    planted = data.draw(st.lists(st.sampled_from(needles)))
    recorded = b"".join(data.draw(st.binary(max_size=9)) + each for each in planted)
    named = [(str(number), needle) for number, needle in enumerate(needles)]
    assert found(named, recorded) == {name for name, needle in named if needle in recorded}
    assert {str(needles.index(each)) for each in planted} <= found(named, recorded)


def test_it_finds_what_lies_across_two_pieces() -> None:
    for offset in range(-8, 3):
        recorded = bytes((1 << 22) + offset) + b"needle" + bytes(100)
        assert found([("it", b"needle")], recorded) == {"it"}


def _frame(payload: bytes, *, opcode: int = 2, last: bool = True, masked: bool = True) -> bytes:
    mask = secrets.token_bytes(4) if masked else b""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b""
    length = length or b"\x7f" + size.to_bytes(8, "big")
    head = bytes([opcode | 128 * last, length[0] | 128 * masked]) + length[1:] + mask
    return head + bytes(byte ^ mask[i % 4] if masked else byte for i, byte in enumerate(payload))


@given(st.lists(st.tuples(st.integers(0, 70_000), st.integers(1, 3), st.booleans()), max_size=3))
def test_messages_are_whole_and_without_their_masks(sizes: list[tuple[int, int, bool]]) -> None:
    stream, sent = HEAD, [HEAD]
    for size, parts, masked in sizes:
        payload = secrets.token_bytes(size)
        cuts = [size * part // parts for part in range(parts + 1)]
        for part in range(parts):
            piece, last = payload[cuts[part] : cuts[part + 1]], part == parts - 1
            stream += _frame(piece, opcode=0 if part else 2, last=last, masked=masked)
        sent.append(payload)
    assert messages(stream) == sent
    assert messages(b"HTTP/1.1 200 OK\r\n\r\nbody") == [b"HTTP/1.1 200 OK\r\n\r\nbody"]


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
        HEAD.replace(b"GET /v1/delta HTTP/1.1", b"HTTP/1.1 101 Switching Protocols"),
        HEAD + b"\xc2\x00",
    ],
)
def test_what_is_compressed_is_not_taken_for_searched(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"compressed|extension"):
        messages(stream)
