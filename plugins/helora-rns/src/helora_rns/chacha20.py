"""Seeds of the operating system's, and the words that ChaCha20 (RFC 8439) makes of them."""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from helora_rns.arrays import residues
from helora_rns.modular import Residues

SEED_BYTES, NONCE_BYTES = 32, 12

NO_NONCE = bytes(NONCE_BYTES)

_ZEROS = bytes(1 << 20)
_COUNTER = bytes(4)


def fresh_seed() -> bytes:
    """32 bytes of the operating system's generator."""
    return os.urandom(SEED_BYTES)


class Stream:
    """The words that a seed of 32 bytes and a nonce of 12 expand to."""

    def __init__(self, seed: bytes, nonce: bytes = NO_NONCE) -> None:
        self._cipher = Cipher(ChaCha20(seed, _COUNTER + nonce), mode=None).encryptor()

    def words(self, count: int) -> Residues:
        """The next ``count`` words."""
        out, whole = residues((count,)), memoryview(_ZEROS)
        view = out.view(np.uint8).data
        for start in range(0, 8 * count, len(_ZEROS)):
            size = min(len(_ZEROS), 8 * count - start)
            self._cipher.update_into(whole[:size], view[start:])
        return out
