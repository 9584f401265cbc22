"""Keys from passphrases, by scrypt (RFC 7914), for what is kept encrypted: a client's keys, and stores.

The package ``cryptography`` is an extra, so it is imported only when something is encrypted or decrypted.
"""

from __future__ import annotations

import importlib
import unicodedata
from typing import Any

from helora_core.errors import CapabilityMissing, InvalidInput
from helora_core.installing import install_line

SCRYPT_LOG_N = 17
"""scrypt's cost N = 2^17 with r = 8 and p = 1, as OWASP's cheat sheet on passwords asks for: 128 MiB."""

LEAST_SCRYPT_LOG_N, MOST_SCRYPT_LOG_N = 14, 20
"""The costs that are accepted from bytes that were kept: 16 MiB to 1 GiB."""

SALT_BYTES, KEY_BYTES = 16, 32


def normalized(passphrase: object, who: str) -> bytes:
    """The passphrase as bytes that do not depend on how a keyboard composes accents.

    Raises:
        InvalidInput: It is empty or not text.
    """
    if not isinstance(passphrase, str) or not passphrase:
        raise InvalidInput(
            f"{who}: the passphrase is empty or not text.", hint="Give a passphrase that nobody can guess, as text."
        )
    return unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")


def derived_key(secret: bytes, salt: bytes, who: str, *, log_n: int, r: int = 8, p: int = 1) -> bytes:
    """``KEY_BYTES`` from a normalised passphrase.

    Raises:
        InvalidInput: There is too little memory.
        CapabilityMissing: ``cryptography`` is not installed.
    """
    scrypt = primitive("kdf.scrypt", "Scrypt", who)
    try:
        key: bytes = scrypt(salt=salt, length=KEY_BYTES, n=1 << log_n, r=r, p=p).derive(secret)
    except MemoryError as error:
        raise InvalidInput(
            f"{who}: scrypt needs {(128 * r << log_n) >> 20} MiB of memory, which is not available.",
            hint="Free memory and try again.",
        ) from error
    return key


def primitive(module: str, name: str, who: str) -> Any:
    """A class of ``cryptography.hazmat.primitives``.

    Raises:
        CapabilityMissing: ``cryptography`` is not installed.
    """
    try:
        return getattr(importlib.import_module(f"cryptography.hazmat.primitives.{module}"), name)
    except ImportError as error:
        raise CapabilityMissing(
            f"{who}: it takes the package cryptography, which is not installed.",
            hint=install_line("keys"),
        ) from error
