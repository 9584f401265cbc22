"""Frames: any pieces of a stream give the same frames, and no stream gives anything but frames and typed errors."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core import errors
from helora_core.errors import ConnectionLost, CorruptPayload, HeloraError, LimitExceeded, VersionMismatch
from helora_transformers.link.framing import HELLO, Decoder, Frame, Kind, encode
from helora_transformers.link.refusals import decode_refusal, encode_refusal

MOST = 40
HEAD = len(encode(Kind.OFFER, 0))
FRAMES = st.lists(
    st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**64 - 1), st.binary(max_size=MOST)), max_size=6
)
LIMITS = dict.fromkeys(Kind, MOST)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


def read(decoder: Decoder, parts: list[bytes]) -> list[Frame]:
    """All frames. What the decoder holds while it wants more is less than the largest frame."""
    found, held = [], -len(HELLO)
    for part in parts:
        decoder.feed(part)
        held += len(part)
        while (frame := decoder.next()) is not None:
            found.append(frame)
            held -= HEAD + len(frame.payload)
        assert held < HEAD + MOST
    return found


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 1000)), length=st.integers(0, 1000))
def test_any_pieces_of_a_stream_give_its_frames_and_a_start_of_it_those_that_are_whole(
    frames: list[Frame], cuts: list[int], length: int
) -> None:
    stream = HELLO + b"".join(encode(*frame) for frame in frames)
    decoder = Decoder(LIMITS)
    assert read(decoder, pieces(stream, cuts)) == frames
    decoder.end()

    start, cut_short = stream[: length % len(stream)], Decoder(LIMITS)
    ends = [len(HELLO)]
    for frame in frames:
        ends.append(ends[-1] + HEAD + len(frame.payload))
    assert read(cut_short, pieces(start, cuts)) == frames[: sum(end <= len(start) for end in ends[1:])]
    if len(start) in ends:
        cut_short.end()
    else:
        with pytest.raises(ConnectionLost):
            cut_short.end()


@given(garbage=st.binary(max_size=200), hello=st.booleans(), cuts=st.lists(st.integers(0, 200)))
def test_garbage_gives_frames_or_typed_errors_and_is_not_hoarded(garbage: bytes, hello: bool, cuts: list[int]) -> None:
    with suppress(CorruptPayload, VersionMismatch, LimitExceeded):
        read(Decoder({Kind.OFFER: MOST, Kind.REPLY: MOST}), pieces(HELLO * hello + garbage, cuts))


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b"G", CorruptPayload),  # of GET / HTTP/1.1: the first byte is enough
        (HELLO[:4] + b"\x02", VersionMismatch),
        (HELLO + encode(Kind.MESSAGE, 1)[:1] + b"\0" * 8 + (MOST + 1).to_bytes(8, "big"), LimitExceeded),
        (HELLO + encode(Kind.MESSAGE, 1)[:1] + b"\xff" * 16, LimitExceeded),
        (HELLO + encode(Kind.REPLY, 1), CorruptPayload),  # not expected here
        (HELLO + b"\x63" + b"\0" * 16, CorruptPayload),
    ],
)
def test_what_is_refused_is_refused_before_its_payload_is_there_and_again(stream: bytes, kind: type[Any]) -> None:
    decoder = Decoder({Kind.MESSAGE: MOST})
    decoder.feed(stream)
    for _ in range(2):
        with pytest.raises(kind):
            decoder.next()


@pytest.mark.parametrize("name", [name for name, kind in vars(errors).items() if isinstance(kind, type)])
def test_a_refusal_is_the_same_error_at_the_client_and_the_servers_own_faults_are_not_told(name: str) -> None:
    sent = getattr(errors, name)("The file /srv/lora says:\n0.25", hint="Look.\x1b[2J")
    got = decode_refusal(encode_refusal(sent))
    assert type(got) is type(sent)
    assert got.message in ("The file /srv/lora says:?0.25", "Server: it failed to answer.")
    told = name in ("ConnectionLost", "CorrelationUsed", "CorruptPayload", "ForeignCiphertext", "InvalidInput",
                    "LimitExceeded", "NotDurable", "UnexpectedMessage", "VersionMismatch")  # fmt: skip
    assert (got.message[-4:] == "0.25") is told
    assert "\x1b" not in str(got)


def test_faults_without_a_code_and_codes_that_are_not_known_here_are_helora_errors() -> None:
    class Newer(errors.InvalidInput):
        code = "newer"

    assert type(decode_refusal(encode_refusal(ValueError("0.25")))) is HeloraError
    assert "0.25" not in str(decode_refusal(encode_refusal(ValueError("0.25"))))
    assert type(decode_refusal(encode_refusal(Newer("No.", hint="Yes.")))) is HeloraError
    with pytest.raises(CorruptPayload):
        decode_refusal(b"\x93\x01\x02\x03")
