"""The largest messages that parameters allow, so that anything larger is refused before it is read."""

from __future__ import annotations

from dataclasses import dataclass

from helora_core.params.ckks import CKKSParams

SLACK = 2.0
"""How many times the residues' size, at 8 bytes each, a library may use. Measured: 1.2, for OpenFHE's keys 1.6."""

OVERHEAD_BYTES = 256 << 10
"""Bytes that a library may add to a message, such as a description of the parameters. Measured: 1.5 KiB, in OpenFHE."""

OVERHEAD_BYTES_PER_KEY = 16 << 10
"""Bytes that a library may add to each rotation key."""

MOST_KEY_BYTES = 8 << 30
"""Largest evaluation keys if it is not known how many rotations they are for."""


@dataclass(frozen=True)
class MessageLimits:
    """Bytes of the largest messages that a session reads, without the envelope.

    Attributes:
        ciphertext_bytes: For a ciphertext.
        key_bytes: For evaluation keys.
    """

    ciphertext_bytes: int
    key_bytes: int

    @classmethod
    def of(cls, params: CKKSParams, *, rotations: int | None = None) -> MessageLimits:
        """The limits for these parameters: two polynomials per ciphertext; per key, two for each data prime.

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
