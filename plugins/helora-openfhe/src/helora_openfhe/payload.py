"""Bytes that are checked before OpenFHE reads them: its parser takes altered bytes for granted, or crashes on them."""

from __future__ import annotations

import hashlib
import hmac

from helora_core.errors import CorruptPayload

_MAGIC = b"HOFE"
_CHECKSUM_BYTES = 32


def sealed(body: bytes) -> bytes:
    """``body`` behind its checksum."""
    return _MAGIC + hashlib.sha256(body).digest() + body


def opened(payload: bytes, what: str) -> bytes:
    """The body of what ``sealed`` made.

    Raises:
        CorruptPayload: It is anything else.
    """
    head, checksum = payload[: len(_MAGIC)], payload[len(_MAGIC) : len(_MAGIC) + _CHECKSUM_BYTES]
    body = payload[len(_MAGIC) + _CHECKSUM_BYTES :]
    if head != _MAGIC or not hmac.compare_digest(hashlib.sha256(body).digest(), checksum):
        raise CorruptPayload(
            f"helora-openfhe: {len(payload)} bytes are not {what}.",
            hint="Send it again, and check that both sides use the same parameters and versions.",
        )
    return body
