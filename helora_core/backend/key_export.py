"""A client's keys at rest: exported under a passphrase, and restored after a restart.

The export is an envelope of kind SECRET_KEYS, which names the key pair, the backend and the library's version in the
clear. Its payload: length u32 of a header | header, JSON | the backend's export, encrypted by ChaCha20-Poly1305
(RFC 8439) under a key that scrypt (RFC 7914) derives from the passphrase. The header has the parameters of both; the
header, the key pair and the origin are authenticated together with the keys. Anyone who has the bytes can try
passphrases, at 128 MiB and some 0.3 s each; anyone who also has the passphrase can read all that the client ever
encrypted.
"""

from __future__ import annotations

import secrets
import struct
import warnings
from typing import Annotated, Any

import msgspec

from helora_core.backend import envelope
from helora_core.backend.checked import CheckedDecryptor
from helora_core.backend.checked_backend import CheckedBackend, checked
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import Ledger, MeteredDecryptor
from helora_core.backend.limits import MessageLimits
from helora_core.backend.origin import Origin, origin_of
from helora_core.backend.passphrase import (
    LEAST_SCRYPT_LOG_N,
    MOST_SCRYPT_LOG_N,
    SALT_BYTES,
    SCRYPT_LOG_N,
    derived_key,
    normalized,
    primitive,
)
from helora_core.backend.protocol import Backend, SupportsKeyRestore
from helora_core.backend.session import ClientSession, InsecureParametersWarning
from helora_core.errors import CapabilityMissing, CorruptPayload, HeloraError, InvalidInput, VersionMismatch
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, require_secure

MOST_BYTES = (1 << 31) - (1 << 20)
"""Largest export, by the cipher's limit. With Pyfhel it includes rotation keys, which cannot be generated again."""

_MOST_HEADER = 64 << 10
_LENGTH = struct.Struct(">I")
_CIPHER = "chacha20-poly1305"
_NONCE_BYTES = 12

_Salt = Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
_Nonce = Annotated[bytes, msgspec.Meta(min_length=_NONCE_BYTES, max_length=_NONCE_BYTES)]


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters needed to decrypt the rest. All of them are public.

    Attributes:
        cipher: The authenticated cipher.
        kdf: The function that derives its key from the passphrase.
        log_n, r, p: scrypt's cost.
        salt, nonce: Fresh for each export.
        params: Resolved parameters of the keys.
    """

    cipher: str
    kdf: str
    log_n: Annotated[int, msgspec.Meta(ge=LEAST_SCRYPT_LOG_N, le=MOST_SCRYPT_LOG_N)]
    r: Annotated[int, msgspec.Meta(ge=8, le=8)]
    p: Annotated[int, msgspec.Meta(ge=1, le=4)]
    salt: _Salt
    nonce: _Nonce
    params: CKKSParams


def sealed_keys(decryptor: MeteredDecryptor, params: CKKSParams, origin: Origin, passphrase: str) -> bytes:
    """A client's keys, encrypted, for ``ClientSession.export_keys``.

    Raises:
        InvalidInput: The passphrase is empty.
        CapabilityMissing: The backend cannot export keys, they are too large, or the package ``cryptography`` is not
            installed.
    """
    secret = normalized(passphrase, "export_keys")
    _cipher_kind("export_keys")
    exported = decryptor.export_keys()
    if len(exported) > MOST_BYTES - _MOST_HEADER:
        raise CapabilityMissing(
            f"export_keys: the keys have {len(exported)} bytes, and at most {MOST_BYTES} can be exported at once.",
            hint="Use a packing of fewer rotations, or a backend that makes rotation keys again (tenseal, openfhe).",
        )
    header = _Header(
        cipher=_CIPHER,
        kdf="scrypt",
        log_n=SCRYPT_LOG_N,
        r=8,
        p=1,
        salt=secrets.token_bytes(SALT_BYTES),
        nonce=secrets.token_bytes(_NONCE_BYTES),
        params=params,
    )
    encoded = msgspec.json.encode(header, order="deterministic")
    context = _authenticated(decryptor.key_id, origin, encoded)
    sealed = _cipher(header, secret, "export_keys").encrypt(header.nonce, exported, context)
    payload = b"".join((_LENGTH.pack(len(encoded)), encoded, sealed))
    return envelope.wrap(PayloadKind.SECRET_KEYS, decryptor.key_id, payload, origin)


def restore_client(
    backend: Backend | CheckedBackend,
    exported: bytes,
    passphrase: str,
    *,
    ledger: Ledger | None = None,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
    insecure: bool = False,
) -> ClientSession:
    """Make a client from the keys that ``ClientSession.export_keys`` exported; it can decrypt answers to old requests.

    Args:
        backend: The backend of the exporting client, with the same version of its library.
        exported: The bytes that ``export_keys`` returned.
        passphrase: The passphrase given to ``export_keys``.
        ledger: Where operations are counted; a new one if None.
        security_bits, table: The security level and table that the parameters must meet, as in ``open_sessions``.
        insecure: Restore keys even if the table refuses their parameters, with an ``InsecureParametersWarning``.

    Raises:
        InvalidInput: The passphrase is not that of the export.
        CorruptPayload: The bytes are not a whole export.
        VersionMismatch: Another version of helora or of the library made it.
        ForeignCiphertext: Another backend made it.
        InsecureParameters: The table refuses the parameters.
        CapabilityMissing: The backend cannot restore keys, or the package ``cryptography`` is not installed.
    """
    secret = normalized(passphrase, "restore_client")
    _cipher_kind("restore_client")
    backend = checked(backend)
    if not isinstance(backend.library, SupportsKeyRestore):
        raise CapabilityMissing(
            f"restore_client: backend {backend.name} cannot restore keys.", hint="Use the backend that exported them."
        )
    origin = origin_of(backend.library)
    found = envelope.opened(PayloadKind.SECRET_KEYS, None, exported, origin=origin, most_bytes=MOST_BYTES)
    header, encoded, sealed = _parts(found.payload)
    if backend.resolve(header.params) != header.params:
        raise VersionMismatch(
            f"restore_client: {origin.library} now realises the parameters of these keys by other primes.",
            hint="Use the version of helora's plugin that exported them.",
        )
    _judge(header.params, security_bits=security_bits, table=table, insecure=insecure)
    context = _authenticated(found.key_id, origin, encoded)
    opened = _opened(header, secret, sealed, context)
    decryptor = _restored(backend, header.params, opened)
    if decryptor.key_id != found.key_id:
        raise _damaged("they belong to another key pair than they say")
    metered = MeteredDecryptor(decryptor, Ledger() if ledger is None else ledger)
    limits = MessageLimits.of(header.params)
    return ClientSession(metered, header.params, backend.capabilities, origin=origin, limits=limits)


def _cipher_kind(who: str) -> Any:
    return primitive("ciphers.aead", "ChaCha20Poly1305", who)


def _cipher(header: _Header, secret: bytes, who: str) -> Any:
    return _cipher_kind(who)(derived_key(secret, header.salt, who, log_n=header.log_n, r=header.r, p=header.p))


def _authenticated(key_id: bytes, origin: Origin, header: bytes) -> bytes:
    """The data that is authenticated but not encrypted."""
    made_by = origin.encoded
    return b"".join((b"helora keys 1\0", key_id, _LENGTH.pack(len(made_by)), made_by, header))


def _parts(payload: bytes) -> tuple[_Header, bytes, bytes]:
    if len(payload) < _LENGTH.size:
        raise _damaged("there are too few")
    (length,) = _LENGTH.unpack_from(payload)
    encoded, sealed = payload[_LENGTH.size : _LENGTH.size + length], payload[_LENGTH.size + length :]
    if length > _MOST_HEADER or len(encoded) != length:
        raise _damaged(f"a header of {length} bytes is stated")
    try:
        header = strict_json.decode(encoded, _Header, most=_MOST_HEADER)
    except Malformed as error:
        raise _damaged(f"the header {error.reason}") from error
    except HeloraError as error:
        raise _damaged(f"the header makes no sense: {error.message}") from error
    if (header.cipher, header.kdf) != (_CIPHER, "scrypt"):
        raise VersionMismatch(
            f"restore_client: the keys are encrypted by {header.cipher[:40]!r} and {header.kdf[:40]!r}; this helora "
            f"knows {_CIPHER} and scrypt.",
            hint="Use the helora that exported them, or a newer one.",
        )
    return header, encoded, sealed


def _judge(params: CKKSParams, *, security_bits: int, table: str, insecure: bool) -> None:
    if insecure:
        warnings.warn(
            f"INSECURE: restoring keys at ring degree {params.ring_degree}, log2(QP) = {params.modulus_bits} bits, "
            "without a security check, as asked.",
            InsecureParametersWarning,
            stacklevel=3,
        )
    else:
        require_secure(params, security_bits=security_bits, table=table)


def _opened(header: _Header, secret: bytes, sealed: bytes, context: bytes) -> bytes:
    cipher = _cipher(header, secret, "restore_client")
    try:
        opened: bytes = cipher.decrypt(header.nonce, sealed, context)
    except Exception as error:  # InvalidTag, and what the package says of too few bytes
        raise InvalidInput(
            "restore_client: these keys do not open: the passphrase is wrong, or somebody changed them.",
            hint="Give the passphrase of the export. Without it, the keys are lost.",
        ) from error
    return opened


def _restored(backend: CheckedBackend, params: CKKSParams, opened: bytes) -> CheckedDecryptor:
    try:
        return backend.restore_keys(params, opened)
    except HeloraError:
        raise
    except Exception as error:  # libraries raise exceptions of any type
        # Neither the text nor the cause is passed on: a library's message might quote what it read.
        raise _damaged(f"the library cannot read them, {type(error).__name__}") from None


def _damaged(why: str) -> CorruptPayload:
    return CorruptPayload(
        f"restore_client: these bytes are not a client's keys ({why}).",
        hint="Give what ClientSession.export_keys returned, whole.",
    )
