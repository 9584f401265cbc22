"""What a plan reveals to the holder of the secret key, beyond the Δ that it is meant to get.

Classes are ordered from least to most. They describe the plaintexts that the key holder decrypts. The ciphertexts' own
polynomials say more: the key holder knows those of its input, so a bare ct×pt result gives the plaintext factor away
unless the server first re-randomises and floods it (``sanitize``). ``Leakage.needs_sanitize`` marks the plans whose
class holds only then.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class LeakageClass(str, Enum):
    """What the key holder learns from the decrypted results."""

    NOTHING = "nothing"
    """Δ alone."""
    MASKED_Z = "masked z"
    """Δ, and z = down·x under a uniform mask, which is itself uniform and says nothing about z."""
    Z = "z"
    """z = down·x, r numbers per token: ``down`` after d_in independent queries. The key holder must also own ``up``."""
    PRODUCTS = "products"
    """All products of an activation and a weight: all of ``down`` in one query. The key holder must also own ``up``."""


class Leakage(msgspec.Struct, frozen=True, kw_only=True):
    """The leakage of a packing to the key holder. The server never learns anything: it sees only ciphertexts.

    Attributes:
        key_holder: What the decrypted results show.
        needs_sanitize: True if ``key_holder`` holds only after the server re-randomises and floods the results.
        explanation: One sentence for people.
    """

    key_holder: LeakageClass
    needs_sanitize: bool
    explanation: str

    @property
    def label(self) -> str:
        """For tables: the class, with an asterisk where it holds only for sanitised results."""
        return self.key_holder.value + ("*" if self.needs_sanitize else "")
