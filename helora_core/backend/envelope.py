"""The bytes that travel between client and server: a checked envelope around what the library serialises.

Libraries check little: SEAL reads a ciphertext with a flipped bit as long as its residues stay below the primes, and
one made with another key without complaint. The envelope says what is inside, for which keys, and has a SHA-256 over
all of it. The checksum finds accidents; it does not authenticate the sender (transport security does).

It also says which library in which version made the payload, since another one might silently read it wrongly.

Layout, big-endian: magic ``HLRA`` | version u8 | kind u8 | key id 16 bytes | origin length u16 | payload length u64 |
origin | payload | SHA-256 of all before. Every version begins with magic and version and ends in the SHA-256, so that
an envelope of another version is told from a damaged one.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

from helora_core.backend.origin import UNKNOWN, Origin
from helora_core.errors import CorruptPayload, ForeignCiphertext, VersionMismatch

MAGIC = b"HLRA"
VERSION = 2
KEY_ID_BYTES = 16
_PREFIX = struct.Struct(">4sB")
_HEADER = struct.Struct(f">4sBB{KEY_ID_BYTES}sHQ")
_LENGTH_BYTES = 8
CHECKSUM_BYTES = 32
_RESEND = "Send it again; if it keeps failing, check that both sides run the same version of helora."


class PayloadKind(IntEnum):
    """The kind of an envelope's payload."""

    CIPHERTEXT = 1
    EVALUATION_KEYS = 2
    SECRET_KEYS = 3
    """A client's own keys, encrypted; see ``helora_core.backend.key_export``."""
    UPLOAD = 4
    """A client's message in one round of a request; see ``helora_core.parties.messages``."""
    DOWNLOAD = 5
    """A server's answer."""
    MASKED_UPLOAD = 6
    """Activations under a pad, which use up correlations."""
    MASKED_DOWNLOAD = 7
    """The answer to them."""


_NAMES = {
    PayloadKind.CIPHERTEXT: "a ciphertext",
    PayloadKind.EVALUATION_KEYS: "evaluation keys",
    PayloadKind.SECRET_KEYS: "a client's keys",
    PayloadKind.UPLOAD: "a request",
    PayloadKind.DOWNLOAD: "an answer",
    PayloadKind.MASKED_UPLOAD: "masked activations",
    PayloadKind.MASKED_DOWNLOAD: "masked results",
}


def checksum_of(envelope: bytes) -> bytes:
    """What tells an envelope that was checked from all others: SHA-256 of all of it but these last bytes."""
    return envelope[-CHECKSUM_BYTES:]


def kind_of(envelope: bytes) -> int:
    """The kind that an envelope states, before anything is checked; 0 if it is too short to state one."""
    return envelope[5] if len(envelope) > 5 else 0


def key_id_of(envelope: bytes) -> bytes:
    """The key id that an envelope states, before anything is checked; shorter if it is too short to state one."""
    return envelope[6 : 6 + KEY_ID_BYTES]


@dataclass(frozen=True)
class Opened:
    """The content of an envelope, after all checks.

    Attributes:
        payload: The library's bytes.
        key_id: The key pair that they are for.
        origin: The backend and library that made them.
    """

    payload: bytes
    key_id: bytes
    origin: Origin


class Form:
    """Envelopes of one kind, for one key pair and by one library: of many small ones, what all begin with is made once.

    Args:
        kind: Their kind.
        key_id: The key pair that they are for.
        origin: The backend and library that make them.
    """

    def __init__(self, kind: int, key_id: bytes, origin: Origin) -> None:
        self._kind, self._key_id, self._origin = kind, key_id, origin
        self._made_by = origin.encoded
        self._start = _HEADER.pack(MAGIC, VERSION, kind, key_id, len(self._made_by), 0)[:-_LENGTH_BYTES]
        self._head = _HEADER.size + len(self._made_by)

    def wrap(self, payload: bytes) -> bytes:
        """As ``wrap`` does."""
        length = len(payload).to_bytes(_LENGTH_BYTES, "big")
        whole = b"".join((self._start, length, self._made_by, payload))
        return whole + hashlib.sha256(whole).digest()

    def unwrap(self, envelope: bytes, most_bytes: int) -> bytes | memoryview:
        """The payload of such an envelope. One that is any other goes through ``opened``, whose errors these are."""
        length = len(envelope) - self._head - CHECKSUM_BYTES
        if 0 <= length <= most_bytes:
            expected = b"".join((self._start, length.to_bytes(_LENGTH_BYTES, "big"), self._made_by))
            if envelope[: self._head] == expected:
                body = memoryview(envelope)[:-CHECKSUM_BYTES]
                if hmac.compare_digest(hashlib.sha256(body).digest(), envelope[-CHECKSUM_BYTES:]):
                    return body[self._head :]
        return opened(
            PayloadKind(self._kind), self._key_id, envelope, origin=self._origin, most_bytes=most_bytes
        ).payload


def wrap(kind: PayloadKind, key_id: bytes, payload: bytes, origin: Origin = UNKNOWN) -> bytes:
    """Put ``payload`` into an envelope for the keys named by ``key_id`` (16 bytes)."""
    if len(key_id) != KEY_ID_BYTES:
        raise CorruptPayload(
            f"Envelope: a key pair is named by {KEY_ID_BYTES} bytes, not {len(key_id)}.",
            hint="Report this to the author of the backend.",
        )
    made_by = origin.encoded
    head = _HEADER.pack(MAGIC, VERSION, kind, key_id, len(made_by), len(payload)) + made_by
    digest = hashlib.sha256(head)
    digest.update(payload)
    return b"".join((head, payload, digest.digest()))


def unwrap(
    kind: PayloadKind,
    key_id: bytes | None,
    envelope: bytes,
    *,
    origin: Origin | None = None,
    most_bytes: int | None = None,
) -> bytes:
    """The payload of an envelope; arguments and errors are those of ``opened``."""
    return opened(kind, key_id, envelope, origin=origin, most_bytes=most_bytes).payload


def opened(
    kind: PayloadKind,
    key_id: bytes | None,
    envelope: bytes,
    *,
    origin: Origin | None = None,
    most_bytes: int | None = None,
) -> Opened:
    """Open an envelope, checking everything it says.

    Args:
        kind: The kind of payload expected.
        key_id: The key pair that it must be for, or None to accept any (the first message of a client).
        envelope: The bytes as received.
        origin: The backend and library that must have made it, or None to accept any.
        most_bytes: Most bytes that the payload may have, or None for no limit. This is checked first.

    Raises:
        CorruptPayload: Truncated, altered, too long, or of another kind.
        VersionMismatch: Intact, but of another version of the format or of the library.
        ForeignCiphertext: Intact, but made for other keys or by another backend.
    """
    what = f"Envelope with {_NAMES[kind]}:"
    room = None if most_bytes is None else most_bytes + _HEADER.size + CHECKSUM_BYTES + (1 << 16)
    if room is not None and len(envelope) > room:
        if envelope[:5] == _PREFIX.pack(MAGIC, VERSION) and envelope[5] != kind:  # the most likely mistake
            raise _other_kind(kind, envelope[5])
        raise CorruptPayload(
            f"{what} {len(envelope)} bytes, and these parameters make at most {most_bytes}.",
            hint="Check that both sides use the same parameters; a server of other limits takes them as an argument.",
        )
    if len(envelope) < _PREFIX.size + CHECKSUM_BYTES or envelope[:4] != MAGIC:
        raise CorruptPayload(f"Envelope: {len(envelope)} bytes that are not a helora payload.", hint=_RESEND)
    body, checksum = memoryview(envelope)[:-CHECKSUM_BYTES], envelope[-CHECKSUM_BYTES:]
    if not hmac.compare_digest(hashlib.sha256(body).digest(), checksum):
        raise CorruptPayload(
            f"Envelope: {len(envelope)} bytes whose checksum does not match: some were altered or lost.", hint=_RESEND
        )
    _, version = _PREFIX.unpack_from(envelope)
    if version != VERSION:
        raise VersionMismatch(
            f"Envelope: format version {version}; this helora reads version {VERSION}.",
            hint="Use the same version of helora on both sides.",
        )
    payload, found = _parts(body)
    if found.kind != kind:
        raise _other_kind(kind, found.kind)
    if origin is not None:
        origin.require(found.origin, what)
    if key_id is not None and found.key_id != key_id:
        raise ForeignCiphertext(
            f"{what} made for other keys than this session's.",
            hint="Encrypt with the client session whose evaluation keys this server holds.",
        )
    if most_bytes is not None and len(payload) > most_bytes:
        raise CorruptPayload(
            f"{what} {len(payload)} bytes, and these parameters make at most {most_bytes}.",
            hint="Check that both sides use the same parameters.",
        )
    return Opened(payload, found.key_id, found.origin)


def _other_kind(expected: PayloadKind, found: int) -> CorruptPayload:
    known = PayloadKind(found).name.lower() if found in list(PayloadKind) else "unknown"
    return CorruptPayload(
        f"Envelope: expected {expected.name.lower()}, found kind {found} ({known}).",
        hint="Pass ciphertexts where ciphertexts are expected and evaluation keys where keys are.",
    )


@dataclass(frozen=True)
class _Head:
    kind: int
    key_id: bytes
    origin: Origin


def _parts(body: memoryview) -> tuple[bytes, _Head]:
    """The payload, and the fields before it.

    Raises:
        CorruptPayload: The stated lengths are wrong, or the envelope does not say which library made it.
    """
    if len(body) < _HEADER.size:
        raise CorruptPayload(f"Envelope: {len(body)} bytes that are not a helora payload.", hint=_RESEND)
    _, _, kind, key_id, made_by, length = _HEADER.unpack_from(body)
    if length != len(body) - _HEADER.size - made_by:
        raise CorruptPayload(
            f"Envelope: {len(body)} bytes do not hold the {length} bytes of payload announced.", hint=_RESEND
        )
    origin = Origin.decoded(bytes(body[_HEADER.size : _HEADER.size + made_by]))
    if origin is None:
        raise CorruptPayload("Envelope: it does not say which library made it.", hint=_RESEND)
    return bytes(body[_HEADER.size + made_by :]), _Head(kind, key_id, origin)
