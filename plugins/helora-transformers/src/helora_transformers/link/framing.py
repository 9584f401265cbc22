"""Frames over a byte stream. Sans-IO: bytes in, frames out, and no socket.

Layout, big-endian: each side begins with its hello, the magic ``HLNK`` and a version (u8). Frames follow: kind u8 |
request u64 | length u64 | payload. The server speaks first: hello and a welcome, or a refusal. Requests of the client
have numbers from 1, and the reply or refusal of each has its number; a refusal with number 0 ends the connection.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, NamedTuple

import msgspec

from helora_core.errors import ConnectionLost, CorruptPayload, LimitExceeded, VersionMismatch

MAGIC = b"HLNK"
VERSION = 1
HELLO = MAGIC + bytes([VERSION])
_HEAD = struct.Struct(">BQQ")


class Kind(IntEnum):
    """What a frame is."""

    WELCOME = 0
    """The server's first: a ``Welcome``."""
    OFFER = 1
    """Asks for the offer."""
    OPEN = 2
    """Evaluation keys, which open the connection's session."""
    MESSAGE = 3
    """A message for the session."""
    REPLY = 4
    """What was asked for: the offer, nothing once the session is open, or the session's answer."""
    REFUSAL = 5
    """An error; see ``refusals``."""


class Frame(NamedTuple):
    """One frame."""

    kind: Kind
    request: int
    payload: bytes


class Welcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the server reads at most, in bytes: of evaluation keys, and of a message."""

    key_bytes: Annotated[int, msgspec.Meta(ge=0)]
    message_bytes: Annotated[int, msgspec.Meta(ge=0)]


def encode(kind: Kind, request: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return _HEAD.pack(kind, request, len(payload)) + payload


class Decoder:
    """Makes frames of a stream, in whatever pieces it comes. It holds one frame at most, and the piece fed last.

    Args:
        limits: The kinds that are read, with the most bytes of each one's payload. A frame is judged by its head,
            before its payload is there.
    """

    def __init__(self, limits: Mapping[Kind, int]) -> None:
        self._limits = dict(limits)
        self._buffer = bytearray()
        self.greeted = False

    def feed(self, data: bytes) -> None:
        """Take bytes that came. Afterwards call ``next`` until it gives None."""
        self._buffer += data

    def next(self) -> Frame | None:
        """The next frame; None if more bytes are needed for it. Once it has raised, it raises the same again.

        Raises:
            CorruptPayload: This is not the stream of a link, or the frame is of a kind that is not read here.
            VersionMismatch: It is the stream of another version.
            LimitExceeded: The frame's payload is longer than allowed.
        """
        if not self.greeted and not self._hello():
            return None
        if len(self._buffer) < _HEAD.size:
            return None
        kind, request, length = _HEAD.unpack_from(self._buffer)
        most = self._limits.get(kind)
        if most is None:
            raise CorruptPayload(
                f"Link: a frame of kind {kind}, which is not expected here.",
                hint="Check that a server of helora is at one end, and a client of it at the other.",
            )
        if length > most:
            raise LimitExceeded(
                f"Link: a frame of {length} bytes ({Kind(kind).name.lower()}), and at most {most} are read.",
                hint="Send fewer tokens per request; keys for this server's offer are never longer.",
            )
        end = _HEAD.size + length
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            payload = bytes(view[_HEAD.size : end])
        del self._buffer[:end]
        return Frame(Kind(kind), request, payload)

    def end(self) -> None:
        """The stream has ended.

        Raises:
            ConnectionLost: Within a frame, or before the hello.
        """
        if self._buffer or not self.greeted:
            raise ConnectionLost("Link: the stream ended halfway.", hint="Connect again.")

    def _hello(self) -> bool:
        """Whether the hello is there; it is refused at its first wrong byte."""
        start = bytes(self._buffer[: len(HELLO)])
        if start[: len(MAGIC)] != MAGIC[: len(start)]:
            raise CorruptPayload(
                "Link: the other side does not speak as a link does.",
                hint="Check the address: helora link prints its own when it starts.",
            )
        if len(start) < len(HELLO):
            return False
        if start != HELLO:
            raise VersionMismatch(
                f"Link: the other side speaks version {start[-1]} of links; this helora speaks {VERSION}.",
                hint="Use the same version of helora on both sides.",
            )
        del self._buffer[: len(HELLO)]
        self.greeted = True
        return True
