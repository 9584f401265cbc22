"""What a backend can do, as data that plans are checked against: nobody writes ``if backend == ...``."""

from __future__ import annotations

from enum import Enum

import msgspec


class Encoding(str, Enum):
    """How numbers become a plaintext polynomial."""

    SLOTS = "slots"
    """Real values in the N/2 slots of the canonical embedding; shorter vectors are padded with zeros."""


class RescaleMode(str, Enum):
    """Who divides by a prime after a multiplication."""

    EXPLICIT = "explicit"
    """The program says when (SEAL, OpenFHE's FIXEDMANUAL)."""
    AUTOMATIC = "automatic"
    """The library does it by itself (OpenFHE's FLEXIBLEAUTO)."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The abilities of a backend.

    Attributes:
        encodings: The encodings it takes.
        rescale: Whether programs rescale or the library does.
        free_plaintext_scale: Whether each plaintext may have a scale of its own; if not, all have the parameters' one.
        seeded_keys: Whether ``generate_keys`` takes a seed. Only an emulation should.
        compressed_upload: Whether a fresh ciphertext travels as one polynomial and a seed.
    """

    encodings: frozenset[Encoding]
    rescale: RescaleMode
    free_plaintext_scale: bool
    seeded_keys: bool
    compressed_upload: bool
