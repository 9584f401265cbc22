"""Which ciphertexts of activations a plan takes, as a digest: plans with equal digests take the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from helora_core.backend.capabilities import Encoding
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import CKKSParams


def input_signature(
    params: CKKSParams, scale_bits: int, encoding: Encoding, shape: tuple[int, int], placed: Sequence[Vector]
) -> str:
    """SHA-256 (hex) of everything that a ciphertext of activations depends on.

    Args:
        params: Nominal parameters.
        scale_bits: log2 of the scale that activations are encrypted at.
        encoding: How they are encoded.
        shape: Tokens per run, and d_in.
        placed: The layout's vectors for the numbers 1, 2, 3, … in this shape, which show where it puts each.
    """
    content = msgspec.json.encode((params.digested, scale_bits, encoding, shape, len(placed)), order="deterministic")
    digest = hashlib.sha256(content)
    for vector in placed:
        digest.update(vector.size.to_bytes(8, "big") + vector.astype("<f8").tobytes())
    return digest.hexdigest()
