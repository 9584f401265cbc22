"""How large a message can be: derived from the parameters, so that what cannot be one is refused before it is read."""

from __future__ import annotations

from dataclasses import dataclass

from helora_core.params.ckks import CKKSParams

SLACK = 2.0
"""How many times the bytes of the residues, of 8 each, a library may take. Measured: 1.2, of keys in OpenFHE 1.6."""

OVERHEAD_BYTES = 256 << 10
"""What a library may add to a message, its own description of the parameters for one. Measured: 1.5 KiB, in OpenFHE."""

OVERHEAD_BYTES_PER_KEY = 16 << 10
"""What it may add to each rotation key."""

MOST_KEY_BYTES = 8 << 30
"""Evaluation keys, where it is not known how many rotations they are for."""


@dataclass(frozen=True)
class MessageLimits:
    """Bytes of the largest messages that a session reads, without the envelope.

    Attributes:
        ciphertext_bytes: Of a ciphertext.
        key_bytes: Of evaluation keys.
    """

    ciphertext_bytes: int
    key_bytes: int

    @classmethod
    def of(cls, params: CKKSParams, *, rotations: int | None = None) -> MessageLimits:
        """What these parameters can make: two polynomials a ciphertext; for a key as many for each data prime.

        Args:
            params: Resolved or not.
            rotations: How many rotation keys there are; if None, ``MOST_KEY_BYTES`` and N/2 − 1 limit them.
        """
        data, special = len(params.data_bits), len(params.special_bits)
        pair = 2 * params.ring_degree * 8
        rotation_key = int(SLACK * data * pair * (data + special)) + OVERHEAD_BYTES_PER_KEY
        known = params.slots - 1 if rotations is None else rotations
        key_bytes = int(SLACK * pair * (data + special)) + OVERHEAD_BYTES + known * rotation_key
        return cls(
            ciphertext_bytes=int(SLACK * pair * data) + OVERHEAD_BYTES,
            key_bytes=min(key_bytes, MOST_KEY_BYTES) if rotations is None else key_bytes,
        )
