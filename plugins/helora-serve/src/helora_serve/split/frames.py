"""The frames of ``helora.split.v1``. Sans-IO: bytes in, frames out, in the same framing as ``helora_serve.frames``.

A client embeds its tokens and sends the rows; the server runs the transformer's layers with the adapter and answers
with the hidden states after the final norm, to which the client applies the head. Both are the payloads of ``forward``
and ``hidden``: rows of ``hidden`` numbers each, little-endian, row by row, in the session's ``dtype``.

Requests have the numbers 1, 2, 3 …; a client sends one when it has the answer to the one before. The server keeps the
last answer: a request that comes again with the same number and the same bytes gets it and is not computed again.
``position`` is where in the context the first row belongs. It is the end of the server's cache, or a smaller number,
which forgets what is cached from there on; a larger one is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, Union

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.errors import CorruptPayload
from helora_serve.frames import (
    TOKEN_BYTES,
    Close,
    Code,
    Count,
    Digest,
    Goodbye,
    Number,
    SessionId,
    Text,
    Token,
    parts_of,
)
from helora_serve.frames import encode as _encode

SUBPROTOCOL = "helora.split.v1"
PATH = "/v1/split"

DType = Literal["float32", "float16"]
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class SplitOpen(_Header, tag="open", frozen=True, kw_only=True):
    """The client's first frame of a new session.

    Attributes:
        base: Digest of the base model whose embedding and head the client has, as ``GET /v1/split/offer`` names it.
        adapter: The adapter; None for the base model alone.
        dtype: Of the numbers in payloads, both ways.
    """

    base: Digest
    adapter: Name | None
    dtype: DType


class SplitResume(_Header, tag="resume", frozen=True, kw_only=True):
    """The client's first frame on another socket of a session that it has.

    Attributes:
        session, token: As the welcome named them.
        position: Positions of the context whose answers the client has. The server's cache may end later, if an answer
            was lost: the client sends that request again. It may end earlier, if the cache was dropped: the welcome
            says where.
    """

    session: SessionId
    token: Token
    position: Count


class Forward(_Header, tag="forward", frozen=True, kw_only=True):
    """Run the layers on hidden states, which are the payload: (tokens, hidden). The same one may come again.

    Attributes:
        request: Its number.
        position: Where in the context the first row belongs.
        tokens: Number of rows.
        last: Whether the last row's answer alone is wanted.
    """

    request: Number
    position: Count
    tokens: Number
    last: bool


class SplitWelcome(_Header, tag="welcome", frozen=True, kw_only=True):
    """The server's first frame, whether the session is new or goes on.

    Attributes:
        session: Its name.
        token: The secret that resumes it; empty when it has been resumed.
        requested: Number of the last request that the server has had.
        position: Where the cache ends.
        most_tokens: Most rows of a request.
        most_positions: Most positions of a context.
        hidden: Numbers of a row.
        ttl_s: Seconds without a frame after which the session is dropped.
        mode: ``split``.
        sees: What the server sees, in a sentence.
    """

    session: SessionId
    token: Annotated[bytes, msgspec.Meta(max_length=TOKEN_BYTES)]
    requested: Count
    position: Count
    most_tokens: Number
    most_positions: Number
    hidden: Number
    ttl_s: float
    mode: str
    sees: Text


class Hidden(_Header, tag="hidden", frozen=True, kw_only=True):
    """The answer to ``forward``: hidden states after the final norm, (tokens, hidden), which are the payload.

    Attributes:
        request: The request's number.
        tokens: Number of rows: the request's, or 1 if the last alone was wanted.
        position: Where the cache ends now.
    """

    request: Number
    tokens: Number
    position: Count


class SplitRefused(_Header, tag="refused", frozen=True, kw_only=True):
    """The refusal of a request. The session goes on.

    Attributes:
        request: The request's number.
        position: Where the cache ends: the client goes on from there.
        code, message, hint: The error.
        retry_s: Seconds after which it may be otherwise; None if waiting does not help.
    """

    request: Number
    position: Count
    code: Code
    message: Text
    hint: Text
    retry_s: float | None = None


FromSplitClient: TypeAlias = Union[SplitOpen, SplitResume, Forward, Close]  # noqa: UP007 - msgspec on Python 3.10
FromSplitServer: TypeAlias = Union[SplitWelcome, Hidden, SplitRefused, Goodbye]  # noqa: UP007


def encode(header: FromSplitClient | FromSplitServer, payload: bytes | memoryview = b"") -> bytes:
    """The bytes of a frame."""
    return _encode(header, payload)


def decode_from_client(frame: bytes) -> tuple[FromSplitClient, memoryview]:
    """What a client sent.

    Raises:
        CorruptPayload: It is no such frame.
    """
    found: tuple[FromSplitClient, memoryview] = parts_of(frame, FromSplitClient, (Forward,), SUBPROTOCOL)
    return found


def decode_from_server(frame: bytes) -> tuple[FromSplitServer, memoryview]:
    """What a server sent.

    Raises:
        CorruptPayload: It is no such frame.
    """
    found: tuple[FromSplitServer, memoryview] = parts_of(frame, FromSplitServer, (Hidden,), SUBPROTOCOL)
    return found


def payload_of(rows: NDArray[Any], dtype: str) -> bytes:
    """The bytes of hidden states.

    Args:
        rows: (tokens, hidden), any floating type.
        dtype: ``float32`` or ``float16``.
    """
    with np.errstate(over="ignore"):  # whoever needs to looks for infinities
        return np.ascontiguousarray(rows, DTYPES[dtype]).tobytes()


def rows_of(payload: memoryview | bytes, tokens: int, hidden: int, dtype: str) -> NDArray[np.float32]:
    """The hidden states in a payload: (tokens, hidden), float32.

    Raises:
        CorruptPayload: It has another length.
    """
    kind = DTYPES[dtype]
    if len(payload) != tokens * hidden * kind.itemsize:
        raise CorruptPayload(
            f"The hidden states have {len(payload)} bytes; {tokens} x {hidden} numbers of {dtype} have "
            f"{tokens * hidden * kind.itemsize}.",
            hint="Send as many rows as the header says, in the type that the session was opened with.",
        )
    return np.frombuffer(payload, kind).reshape(tokens, hidden).astype(np.float32)
