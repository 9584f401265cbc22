"""The bytes that travel between client and server: a checked envelope around what the library serialises.

Libraries check little: SEAL reads a ciphertext with a flipped bit as long as its residues stay below the primes, and
one made with another key without complaint. The envelope says what is inside, for which keys, and has a SHA-256 over
all of it. The checksum finds accidents; it does not authenticate the sender (transport security does).

Layout, big-endian: magic ``HLRA`` | version u8 | kind u8 | key id 16 bytes | payload length u64 | payload | SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from enum import IntEnum

from helora_core.errors import CorruptPayload, ForeignCiphertext

MAGIC = b"HLRA"
VERSION = 1
KEY_ID_BYTES = 16
_HEADER = struct.Struct(f">4sBB{KEY_ID_BYTES}sQ")
_CHECKSUM_BYTES = 32
_RESEND = "Send it again; if it keeps failing, check that both sides run the same version of helora."


class PayloadKind(IntEnum):
    """What an envelope holds."""

    CIPHERTEXT = 1
    EVALUATION_KEYS = 2


def wrap(kind: PayloadKind, key_id: bytes, payload: bytes) -> bytes:
    """Put ``payload`` into an envelope for the keys named by ``key_id`` (16 bytes)."""
    head = _HEADER.pack(MAGIC, VERSION, kind, key_id, len(payload))
    digest = hashlib.sha256(head)
    digest.update(payload)
    return b"".join((head, payload, digest.digest()))


def unwrap(kind: PayloadKind, key_id: bytes | None, envelope: bytes) -> bytes:
    """Take the payload out of an envelope, checking everything the envelope says.

    Args:
        kind: What is expected inside.
        key_id: Whose keys it must be for, or None to accept any (the first message of a client).
        envelope: The bytes as received.

    Returns:
        The payload.

    Raises:
        CorruptPayload: Truncated, altered, too long, of another kind or another version.
        ForeignCiphertext: Intact, but made for other keys.
    """
    if len(envelope) < _HEADER.size + _CHECKSUM_BYTES or envelope[:4] != MAGIC:
        raise CorruptPayload(f"Envelope: {len(envelope)} bytes that are not a helora payload.", hint=_RESEND)
    _, version, found_kind, found_key_id, length = _HEADER.unpack_from(envelope)
    if version != VERSION:
        raise CorruptPayload(
            f"Envelope: format version {version}; this helora reads version {VERSION}.",
            hint="Use the same version of helora on both sides.",
        )
    if length != len(envelope) - _HEADER.size - _CHECKSUM_BYTES:
        raise CorruptPayload(
            f"Envelope: {len(envelope)} bytes do not hold the {length} bytes of payload announced.", hint=_RESEND
        )
    body, checksum = envelope[:-_CHECKSUM_BYTES], envelope[-_CHECKSUM_BYTES:]
    if not hmac.compare_digest(hashlib.sha256(body).digest(), checksum):
        raise CorruptPayload("Envelope: the checksum does not match; bytes were altered.", hint=_RESEND)
    if found_kind != kind:
        raise CorruptPayload(
            f"Envelope: expected {kind.name.lower()}, found kind {found_kind}.",
            hint="Pass ciphertexts where ciphertexts are expected and evaluation keys where keys are.",
        )
    if key_id is not None and found_key_id != key_id:
        raise ForeignCiphertext(
            "Envelope: the ciphertext was made for other keys than this session's.",
            hint="Encrypt with the client session whose evaluation keys this server holds.",
        )
    return envelope[_HEADER.size : -_CHECKSUM_BYTES]
