"""What core holds of a library's objects: the object, and what has to be known before an operation may run."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from helora_core.params.ckks import CKKSParams

Family: TypeAlias = tuple[type, str, CKKSParams]
"""What plaintexts are interchangeable in: a backend's type and name, and resolved parameters."""


class Ciphertext(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """A library's ciphertext.

    Attributes:
        data: The library's own.
        key_id: Of its key pair.
        level: Rescales still possible, as the program made it; meaningless under automatic rescaling.
        scale: Factor between values and integers, as the program made it; meaningless as well.
    """

    data: Any
    key_id: bytes
    level: int
    scale: float


class Plaintext(msgspec.Struct, frozen=True, eq=False):
    """A library's plaintext, for ciphertexts of any key pair.

    Attributes:
        data: The library's own.
        level: Of the ciphertexts that it goes with.
        scale: Factor between values and integers.
        family: Whose ciphertexts it goes with.
    """

    data: Any
    level: int
    scale: float
    family: Family
