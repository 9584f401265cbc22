"""Core's handles of a library's objects: each has the object and what must be known before an operation may run."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from helora_core.params.ckks import CKKSParams

Family: TypeAlias = tuple[type, str, CKKSParams]
"""A backend's type and name, and resolved parameters: plaintexts that agree in all three are interchangeable."""


class Ciphertext(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """A library's ciphertext.

    Attributes:
        data: The library's own object.
        key_id: Names its key pair.
        level: Rescales still possible, as core tracks them; meaningless under automatic rescaling.
        scale: Factor between values and integers, as core tracks it; also meaningless under automatic rescaling.
    """

    data: Any
    key_id: bytes
    level: int
    scale: float


class Plaintext(msgspec.Struct, frozen=True, eq=False):
    """A library's plaintext, for ciphertexts of any key pair.

    Attributes:
        data: The library's own object.
        level: Level of the ciphertexts that it can be combined with.
        scale: Factor between values and integers.
        family: The backend and parameters of the ciphertexts that it can be combined with.
    """

    data: Any
    level: int
    scale: float
    family: Family
