"""The messages between client and server once the keys are exchanged: one up and one down in each round of a request.

A message is a checked envelope (``helora_core.backend.envelope``) around MessagePack. It names its request
and round, so that messages may be lost, repeated, reordered or mixed with those of other requests.
"""

from __future__ import annotations

import secrets
from typing import Annotated, TypeVar

import msgspec

from helora_core.backend.ledger import InnerCounts, OperationCounts
from helora_core.errors import CorruptPayload
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed

REQUEST_ID_BYTES = 16

MOST_MESSAGE_BYTES = 256 << 20
"""Largest message that is read: 256 MiB."""

T = TypeVar("T")

_ENCODER = msgspec.msgpack.Encoder()

RequestId = Annotated[bytes, msgspec.Meta(min_length=REQUEST_ID_BYTES, max_length=REQUEST_ID_BYTES)]
Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]


class Span(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Consecutive correlations of a batch: ``count`` of them, from ``start``."""

    batch: RequestId
    start: Number
    count: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]


class Upload(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The client's message of one round.

    Attributes:
        request: The request's random name; a preparation's batch has the same name.
        number: The round, from 0.
        modules: The modules whose Δ are wanted, all of one input.
        plans: Digest of each module's plan: a module may have several, for few and for many tokens.
        tokens: Number of tokens in the request.
        follows: Checksum of the download that it answers; empty in round 0. A server that has forgotten the request and
            begun it again, with other masks, notices that from it.
        ciphertexts: In round 0 the inputs of each run, for all modules alike. Later the client's answers to each run
            of the first module, then of the next. In a preparation its pieces (``helora_core.parties.pieces``).
    """

    request: RequestId
    number: Number
    modules: tuple[str, ...]
    plans: tuple[str, ...]
    tokens: Number
    follows: Annotated[bytes, msgspec.Meta(max_length=32)]
    ciphertexts: tuple[tuple[bytes, ...], ...]


class Download(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The server's message of one round.

    Attributes:
        request: The request's name.
        number: The round.
        ciphertexts: The outputs of each run of the first module, then of the next.
        executed: The server's operations in this round, by its ledger.
        elapsed_ns: The server's time for the round: reading, computing, serialising.
        inner: What whole programs took inside, as the server's library says.
    """

    request: RequestId
    number: Number
    ciphertexts: tuple[tuple[bytes, ...], ...]
    executed: OperationCounts
    elapsed_ns: Annotated[int, msgspec.Meta(ge=0)]
    inner: InnerCounts = InnerCounts()


class MaskedUpload(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Activations under a pad. Everything else is known from the batch.

    Attributes:
        spans: The correlations, one a token, of batches for the same modules.
        modules: The modules whose Δ are wanted, by their places in the batch.
        numbers: y of all tokens: words, little-endian, shape (tokens, inputs).
    """

    spans: tuple[Span, ...]
    modules: tuple[Number, ...]
    numbers: bytes


class MaskedDownload(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answer to it.

    Attributes:
        batch, start: The first correlation that it answers.
        results: v of each module: the bits that are kept of each number, packed, shape (tokens, outputs).
        elapsed_ns: The server's time.
    """

    batch: RequestId
    start: Number
    results: tuple[bytes, ...]
    elapsed_ns: Annotated[int, msgspec.Meta(ge=0)]


def new_request_id() -> bytes:
    """Random bytes that no other request has."""
    return secrets.token_bytes(REQUEST_ID_BYTES)


def encode(message: Upload | Download | MaskedUpload | MaskedDownload) -> bytes:
    """The payload of a message."""
    return _ENCODER.encode(message)


def decode(payload: bytes | memoryview, kind: type[T]) -> T:
    """Read the payload of a message.

    Raises:
        CorruptPayload: It is not of this kind.
    """
    try:
        return strict_msgpack.decode(payload, kind)
    except Malformed as error:
        raise CorruptPayload(
            f"The message is not a valid {kind.__name__.lower()}: it {error.reason}.",
            hint="Check that both sides run the same version of helora.",
        ) from error
