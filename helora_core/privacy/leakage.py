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


class Assumption(str, Enum):
    """What must be true of a client for a leakage class to hold. Nothing runs on an assumption that is not accepted."""

    HONEST_KEYS = "honest keys"
    """The client's public keys are made as they should be."""

    @property
    def option(self) -> str:
        """As the command line has it."""
        return self.value.replace(" ", "-")

    @property
    def explanation(self) -> str:
        """In a sentence, for people."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Assumption.HONEST_KEYS: (
        "clients make their public keys as the protocol says: a forged key undoes the re-randomisation of results, and "
        "one batch then gives the weights away."
    ),
}


class Leakage(msgspec.Struct, frozen=True, kw_only=True):
    """The leakage of a packing to the key holder. The server never learns anything: it sees only ciphertexts.

    Attributes:
        key_holder: What the decrypted results show.
        needs_sanitize: True if ``key_holder`` holds only after the server re-randomises and floods the results.
        explanation: One sentence for people.
        assumes: What must be true of the key holder for ``key_holder`` to hold.
    """

    key_holder: LeakageClass
    needs_sanitize: bool
    explanation: str
    assumes: tuple[Assumption, ...] = ()

    @property
    def label(self) -> str:
        """For tables: the class, with an asterisk where it holds only for sanitised results."""
        return self.key_holder.value + ("*" if self.needs_sanitize else "")
