"""The frames of ``helora.delta.v1``. Sans-IO: bytes in, frames out.

A frame is one binary message of a WebSocket: the length of its header (u16, big-endian), the header, a map in
MessagePack whose ``type`` says which one it is, and the payload, bytes as they are. Only ``ask`` and ``answer`` have a
payload. docs/protocol.md says what follows what; ``helora_serve.schema`` makes a JSON Schema of these classes.

Requests have numbers, 1, 2, 3 …, in the order in which they are sent; so have the server's answers and refusals of
them, in the order in which they are made. Each side says up to which number of the other it has received everything.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, TypeAlias, Union

import msgspec

from helora_core.errors import CorruptPayload
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed

SUBPROTOCOL = "helora.delta.v1"
PATH = "/v1/delta"
TOKEN_BYTES = 32
MOST_HEADER_BYTES = 16 << 10
_LENGTH = struct.Struct(">H")
BODY_LENGTH = struct.Struct(">I")
MEDIA_TYPE = "application/x-helora-frames"
"""Where frames go by POST, this length is before each, and bodies are of this type."""

FRAME_OVERHEAD = _LENGTH.size + MOST_HEADER_BYTES

Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, in hexadecimal")]
SessionId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Token = Annotated[bytes, msgspec.Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Code = Annotated[str, msgspec.Meta(max_length=60)]


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class Open(_Header, tag="open", frozen=True, kw_only=True):
    """The client's first frame of a new session.

    Attributes:
        version: The ``version`` of the offer that the client has read.
        keys: SHA-256 of its evaluation keys, which the server has.
    """

    version: Digest
    keys: Digest


class Resume(_Header, tag="resume", frozen=True, kw_only=True):
    """The client's first frame on another socket of a session that it has.

    Attributes:
        session, token: As the welcome named them.
        received: The number up to which it has all answers.
    """

    session: SessionId
    token: Token
    received: Count


class Ask(_Header, tag="ask", frozen=True, kw_only=True):
    """A request; the payload is a message, as ``helora_core.parties`` makes it. The same one may come again.

    Attributes:
        request: Its number.
        received: The number up to which the client has all answers.
    """

    request: Number
    received: Count


class Ack(_Header, tag="ack", frozen=True, kw_only=True):
    """The client has all answers up to a number; the server forgets them.

    Attributes:
        received: The number.
    """

    received: Count


class Close(_Header, tag="close", frozen=True, kw_only=True):
    """The client needs the session no more."""


class Welcome(_Header, tag="welcome", frozen=True, kw_only=True):
    """The server's first frame, whether the session is new or goes on.

    Attributes:
        session: Its name.
        token: The secret that resumes it; empty when it has been resumed.
        requested: The number up to which the server has all requests. Later ones have to be sent again.
        credits: Requests that may be in flight.
        credit_bytes: Bytes that they may have together, unless there is only one.
        message_bytes: Largest payload that is read.
        window_bytes: Bytes of answers that are kept until they are acknowledged.
        ttl_s: Seconds without a frame after which the session is dropped.
        mode: What the server sees, by the name of the mode.
    """

    session: SessionId
    token: Annotated[bytes, msgspec.Meta(max_length=TOKEN_BYTES)]
    requested: Count
    credits: Number
    credit_bytes: Number
    message_bytes: Number
    window_bytes: Number
    ttl_s: float
    mode: str


class Answer(_Header, tag="answer", frozen=True, kw_only=True):
    """The answer to a request, which is the payload.

    Attributes:
        number: Its number among answers and refusals.
        request: The request's.
    """

    number: Number
    request: Number


class Refused(_Header, tag="refused", frozen=True, kw_only=True):
    """The refusal of a request. The session goes on.

    Attributes:
        number: Its number among answers and refusals.
        request: The request's.
        code, message, hint: The error.
        retry_s: Seconds after which it may be otherwise; None if waiting does not help.
    """

    number: Number
    request: Number
    code: Code
    message: Text
    hint: Text
    retry_s: float | None = None


class Goodbye(_Header, tag="goodbye", frozen=True, kw_only=True):
    """The server's last frame on a socket: why it closes it.

    Attributes:
        code, message, hint: The error.
        retry_s: Seconds after which to try again; None if waiting does not help.
        resumable: Whether the session goes on, on another socket.
    """

    code: Code
    message: Text
    hint: Text
    retry_s: float | None = None
    resumable: bool = False


class Notice(_Header, tag="notice", frozen=True, kw_only=True):
    """What the server tells of the client's budget of queries, once half of it is used.

    Attributes:
        queries: Queries that the client has had of the module that it asked most.
        limit: How many it may have; None if the owner set no limit.
        share_of_copy: Of the queries that would give a module away to 8 bits, the share that the client has had; of
            the module for which it is largest.
    """

    queries: Count
    limit: Count | None
    share_of_copy: float


FromClient: TypeAlias = Union[Open, Resume, Ask, Ack, Close]  # noqa: UP007 - msgspec on Python 3.10
FromServer: TypeAlias = Union[Welcome, Answer, Refused, Goodbye, Notice]  # noqa: UP007
_ENCODER = msgspec.msgpack.Encoder()


def encode(header: msgspec.Struct, payload: bytes | memoryview = b"") -> bytes:
    """The bytes of a frame."""
    head = _ENCODER.encode(header)
    return b"".join((_LENGTH.pack(len(head)), head, payload))


def decode_from_client(frame: bytes) -> tuple[FromClient, memoryview]:
    """What a client sent.

    Raises:
        CorruptPayload: It is no such frame.
    """
    found: tuple[FromClient, memoryview] = parts_of(frame, FromClient, (Ask,), SUBPROTOCOL)
    return found


def decode_from_server(frame: bytes) -> tuple[FromServer, memoryview]:
    """What a server sent.

    Raises:
        CorruptPayload: It is no such frame.
    """
    found: tuple[FromServer, memoryview] = parts_of(frame, FromServer, (Answer,), SUBPROTOCOL)
    return found


def parts_of(frame: bytes, kind: Any, with_payload: tuple[type, ...], protocol: str) -> Any:
    """Header and payload of a frame.

    Args:
        frame: The frame.
        kind: The headers that it may have, a union.
        with_payload: Those that have a payload, and always one.
        protocol: Its name, for messages.

    Raises:
        CorruptPayload: It is no such frame.
    """
    view = memoryview(frame)
    length = _LENGTH.unpack_from(view)[0] if len(view) >= _LENGTH.size else 0
    end = _LENGTH.size + length
    if not 0 < length <= MOST_HEADER_BYTES or len(view) < end:
        raise _corrupt("is shorter than its header says, or has none", protocol)
    try:
        header = strict_msgpack.decode(view[_LENGTH.size : end], kind)
    except Malformed as error:
        raise _corrupt(error.reason, protocol) from error
    has_one = isinstance(header, with_payload)
    if bool(view[end:]) != has_one:
        tag = header.__struct_config__.tag
        raise _corrupt(f"is {tag}, which has {'a' if has_one else 'no'} payload", protocol)
    return header, view[end:]


def _corrupt(reason: str, protocol: str) -> CorruptPayload:
    return CorruptPayload(
        f"The frame {reason}.", hint=f"Speak {protocol} as docs/protocol.md says; each frame is one binary message."
    )
