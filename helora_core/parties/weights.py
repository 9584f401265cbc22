"""A module's weights as online rounds read them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from helora_core.backend.correlations import Integers, OnlineWeights


@dataclass(frozen=True, eq=False)
class ModularWeights:
    """The integers of one module.

    Attributes:
        matrices: D and U.
        online: The same, ready for online answers.
        fingerprint: SHA-256 of them: correlations of others must not be used with them.
    """

    matrices: tuple[Integers, ...]
    online: OnlineWeights
    fingerprint: bytes


def fingerprint_of(matrices: Sequence[Integers]) -> bytes:
    """SHA-256 of integer matrices and their shapes."""
    digest = hashlib.sha256()
    for matrix in matrices:
        digest.update(repr(matrix.shape).encode() + matrix.astype("<i8").tobytes())
    return digest.digest()
