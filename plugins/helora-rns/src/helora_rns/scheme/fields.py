"""The outer form of everything serialised: a header, and fields of a tag, a length and so many bytes.

========  =========================================================
4 bytes   ``HRNS``
1 byte    version of the format
1 byte    what it is
16 bytes  digest of the parameters
fields    tag (1 byte), length (4 bytes, little-endian), value
========  =========================================================

Fields come once each, in the order of their tags, and nothing follows them. The first is the producer's version.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from enum import IntEnum
from importlib import metadata

from helora_core.errors import CorruptPayload, ForeignCiphertext, VersionMismatch
from helora_rns.scheme.context import DIGEST_BYTES, Context

MAGIC, FORMAT = b"HRNS", 1
_HEADER = struct.Struct(f"<4sBB{DIGEST_BYTES}s")
HEADER_BYTES = _HEADER.size
_FIELD = struct.Struct("<BI")
_LONGEST_VERSION = 64

_version = functools.cache(metadata.version)  # which reads a file


class Kind(IntEnum):
    """What was serialised."""

    CIPHERTEXT = 1
    EVALUATION_KEYS = 2
    SECRET_KEY = 3
    BATCH_KEY = 4
    BATCH_UPLOAD = 5
    BATCH_RESULTS = 6


class Tag(IntEnum):
    """What a field holds."""

    PRODUCER = 1
    LEVEL = 2
    SCALE = 3
    SEED = 4
    POLYNOMIALS = 5
    KEY_ID = 6
    PUBLIC_KEY = 7
    STEPS = 8
    ROTATION_KEYS = 9
    LOW_BITS = 10


def corrupt(what: str) -> CorruptPayload:
    """A refusal of bytes."""
    return CorruptPayload(
        f"helora-rns: {what}.", hint="Send it again, and check that both sides use the same parameters."
    )


def header(kind: Kind, context: Context) -> bytes:
    """What everything begins with: ``HEADER_BYTES``."""
    return _HEADER.pack(MAGIC, FORMAT, kind, context.digest)


def written(kind: Kind, context: Context, fields: Mapping[Tag, bytes]) -> bytes:
    """The bytes of these fields, which must be in the order of their tags."""
    parts = [header(kind, context)]
    for tag, value in {Tag.PRODUCER: _version("helora-rns").encode(), **fields}.items():
        parts += [_FIELD.pack(tag, len(value)), value]
    return b"".join(parts)


def check_header(kind: Kind, context: Context, payload: bytes) -> None:
    """Refuse what does not begin as this kind does.

    Raises:
        CorruptPayload: It is not of this kind.
        VersionMismatch: Its format is another version's.
        ForeignCiphertext: It was made with other parameters.
    """
    if len(payload) < _HEADER.size:
        raise corrupt(f"{len(payload)} bytes are too few for anything")
    magic, form, found, digest = _HEADER.unpack_from(payload)
    if magic != MAGIC:
        raise corrupt("these bytes were not written by helora-rns")
    if form != FORMAT:
        raise VersionMismatch(
            f"helora-rns: this is of format {form}, and format {FORMAT} is read here.",
            hint=f"Use the same version of helora-rns on both sides; this one is {_version('helora-rns')}.",
        )
    if found != kind:
        raise corrupt(f"this is no {kind.name.lower().replace('_', ' ')}")
    if digest != context.digest:
        raise ForeignCiphertext(
            "helora-rns: this was made with other parameters: its digest of ring and primes is another.",
            hint="Use the same plan on both sides.",
        )


def read(kind: Kind, context: Context, payload: bytes) -> dict[Tag, bytes]:
    """The fields, without the producer's.

    Raises:
        CorruptPayload: It is cut short, or longer than its fields; and what ``check_header`` raises.
    """
    check_header(kind, context, payload)
    fields = dict(_fields(payload))
    producer = fields.pop(Tag.PRODUCER, b"")
    if not 0 < len(producer) <= _LONGEST_VERSION:
        raise corrupt("it does not say which version made it")
    return fields


def _fields(payload: bytes) -> list[tuple[Tag, bytes]]:
    found: list[tuple[Tag, bytes]] = []
    at = _HEADER.size
    while at < len(payload):
        if at + _FIELD.size > len(payload):
            raise corrupt("it ends within a field's header")
        tag, length = _FIELD.unpack_from(payload, at)
        at += _FIELD.size
        if length > len(payload) - at:
            raise corrupt(f"field {tag} is said to have {length} bytes, and {len(payload) - at} are left")
        if tag not in Tag.__members__.values() or (found and tag <= found[-1][0]):
            raise corrupt(f"field {tag} is unknown, or out of order")
        found.append((Tag(tag), payload[at : at + length]))
        at += length
    return found


def exactly(fields: Mapping[Tag, bytes], *forms: frozenset[Tag]) -> None:
    """Refuse fields that are of none of these sets.

    Raises:
        CorruptPayload: Some are missing, or too many.
    """
    if frozenset(fields) not in forms:
        raise corrupt(f"fields {sorted(map(int, fields))} do not belong together")
