"""A store whose values are encrypted before they reach another one.

Each value is encrypted by AES-256-GCM (NIST SP 800-38D) under a fresh random nonce of 96 bits: at most 2^32 writes
under one key. The key's name is authenticated with it, so that values cannot change places. Names, sizes and times of
writes stay readable, and an older value of the same name opens: rollback is what ``AnchoredStore`` finds.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from helora_core.backend.passphrase import (
    KEY_BYTES,
    LEAST_SCRYPT_LOG_N,
    MOST_SCRYPT_LOG_N,
    SALT_BYTES,
    SCRYPT_LOG_N,
    derived_key,
    normalized,
    primitive,
)
from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed
from helora_core.parties.store import Store, WrappedStore, Write

_HEADER = "sealed"
_NONCE_BYTES = 12
_CONTEXT = b"helora store 1\0"


class _Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is kept in the clear, under a key of its own.

    Attributes:
        log_n: scrypt's cost, with r = 8 and p = 1.
        salt: Of the passphrase; drawn although a key may have been given.
        check: An empty value, encrypted: a wrong key does not open it.
    """

    log_n: Annotated[int, msgspec.Meta(ge=LEAST_SCRYPT_LOG_N, le=MOST_SCRYPT_LOG_N)]
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    check: bytes


class SealedStore(WrappedStore):
    """Encrypts what another store keeps. Around a ``Deferred`` store, the writes that it gives out are encrypted.

    Args:
        store: The other store. It is empty, or was sealed before.
        key: 32 random bytes, kept elsewhere.

    Raises:
        InvalidInput: It is not the key that the store was sealed with; or the store has values that are not sealed.
        CorruptPayload: The store's header is damaged.
        CapabilityMissing: The package ``cryptography`` is not installed.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidInput(
                f"SealedStore: the key has {len(key)} bytes, not {KEY_BYTES}.",
                hint="Give 32 random bytes, or a passphrase to SealedStore.with_passphrase.",
            )
        self._open(store, key, _header_of(store) or _new_header(store))

    @classmethod
    def with_passphrase(cls, store: Store, passphrase: str) -> SealedStore:
        """Derive the key from a passphrase, as ``Client.export_keys`` does: 128 MiB and some 0.3 s. The salt is kept in
        the store.

        Args:
            store: As for the class.
            passphrase: Text that nobody can guess. Anyone who has the store can try passphrases.

        Raises:
            InvalidInput: The passphrase is empty or a wrong one, and as for the class.
            CorruptPayload, CapabilityMissing: As for the class.
        """
        header = _header_of(store) or _new_header(store)
        secret = normalized(passphrase, "SealedStore")
        key = derived_key(secret, header.salt, "SealedStore", log_n=header.log_n)
        sealed = cls.__new__(cls)
        sealed._open(store, key, header)
        return sealed

    def _open(self, store: Store, key: bytes, header: _Header) -> None:
        super().__init__(store)
        self._cipher: Any = primitive("ciphers.aead", "AESGCM", "SealedStore")(key)
        if not header.check:
            header = msgspec.structs.replace(header, check=self._sealed(_HEADER, b""))
            store.put_many([Write(_HEADER, msgspec.msgpack.encode(header))])
        elif self._opened(_HEADER, header.check) is None:
            raise InvalidInput(
                "SealedStore: this is not the key or passphrase that the store was sealed with.",
                hint="Give the right one. Without it what the store holds is lost: begin with an empty one.",
            )

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none.

        Raises:
            CorruptPayload: It was changed, or was written under another key's name.
        """
        sealed = None if key == _HEADER else self.inner.get(key)
        if sealed is None:
            return None
        value = self._opened(key, sealed)
        if value is None:
            raise CorruptPayload(
                f"SealedStore: the value of {key} does not open: it was changed, or moved here from another key.",
                hint="Void the store (helora_core.parties.anchored_store.void) and prepare again.",
            )
        return value

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        return [name for name in self.inner.names(prefix) if name != _HEADER]

    def put_many(self, writes: Sequence[Write]) -> None:
        """Encrypt all, and write all or, after a crash, none. Errors are those of the other store."""
        if any(key == _HEADER for key, _ in writes):
            raise InvalidInput(f"SealedStore: the key {_HEADER} is its own.", hint="Choose another one.")
        self.inner.put_many([Write(key, None if value is None else self._sealed(key, value)) for key, value in writes])

    def _sealed(self, key: str, value: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed: bytes = self._cipher.encrypt(nonce, value, _CONTEXT + key.encode())
        return nonce + sealed

    def _opened(self, key: str, sealed: bytes) -> bytes | None:
        """The value; None if it does not open."""
        try:
            value: bytes = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _CONTEXT + key.encode())
        except Exception:  # InvalidTag, and what the package says of too few bytes
            return None
        return value


def _header_of(store: Store) -> _Header | None:
    kept = store.get(_HEADER)
    if kept is None:
        return None
    try:
        header = strict_msgpack.decode(kept, _Header)
    except Malformed as error:
        raise _damaged() from error
    if not header.check:
        raise _damaged()
    return header


def _damaged() -> CorruptPayload:
    return CorruptPayload(
        "SealedStore: the store's header is damaged.", hint="Without it nothing opens: begin with an empty store."
    )


def _new_header(store: Store) -> _Header:
    if names := store.names(""):
        raise InvalidInput(
            f"SealedStore: the store has {len(names)} values that are not sealed.", hint="Begin with an empty store."
        )
    return _Header(SCRYPT_LOG_N, secrets.token_bytes(SALT_BYTES), b"")
