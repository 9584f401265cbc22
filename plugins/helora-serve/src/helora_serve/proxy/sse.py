"""Server-sent events (the HTML standard, section 9.2), as far as OpenAI's API uses them: one line of data each."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

MEDIA_TYPE = "text/event-stream; charset=utf-8"


def event(document: object) -> bytes:
    """An event whose data is a document in JSON, which has no line breaks of its own."""
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


DONE = b"data: [DONE]\n\n"
"""The last event of an answer that is whole."""


def data_of(stream: bytes) -> Iterator[bytes]:
    """The data of each whole event of a stream, ``[DONE]`` included; comments are left out.

    For clients: ``helora chat`` and the tests.
    """
    *events, _ = stream.replace(b"\r\n", b"\n").split(b"\n\n")
    for each in events:
        lines = [line[5:].removeprefix(b" ") for line in each.split(b"\n") if line.startswith(b"data:")]
        if lines:
            yield b"\n".join(lines)
