"""Randomness: seeds from the operating system, expanded by ChaCha20 (RFC 8439).

A seed expands to a stream of 64-bit words, little-endian: the key stream under the seed as key and a nonce of 12 bytes,
the block counter beginning at zero; 2^32 blocks of 64 bytes are the most that one gives. Each pair of seed and nonce is
used for one stream. ChaCha20, since graphics cards and browsers have to expand the same seeds, and have no instruction
for AES. Uniform residues are words masked to their prime's bits, those
beyond the prime left out; errors are centred binomial, of 21 coins against 21, whose standard deviation is 3.24;
secrets are uniform over -1, 0 and 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from helora_rns.arrays import doubles, residues
from helora_rns.kernels import Basis, Doubles
from helora_rns.modular import Residues
from helora_rns.scheme.context import Context

SEED_BYTES, NONCE_BYTES = 32, 12

_ZEROS = bytes(1 << 20)
_NONCE, _COUNTER = bytes(NONCE_BYTES), bytes(4)


def fresh_seed() -> bytes:
    """32 bytes of the operating system's generator."""
    return os.urandom(SEED_BYTES)


class Stream:
    """The words that a seed of 32 bytes and a nonce of 12 expand to."""

    def __init__(self, seed: bytes, nonce: bytes = _NONCE) -> None:
        self._cipher = Cipher(ChaCha20(seed, _COUNTER + nonce), mode=None).encryptor()

    def words(self, count: int) -> Residues:
        """The next ``count`` words."""
        out, whole = residues((count,)), memoryview(_ZEROS)
        view = out.view(np.uint8).data
        for start in range(0, 8 * count, len(_ZEROS)):
            size = min(len(_ZEROS), 8 * count - start)
            self._cipher.update_into(whole[:size], view[start:])
        return out


def uniform(context: Context, seed: bytes, bases: Sequence[Basis]) -> list[Residues]:
    """A polynomial for each basis, uniform, of one seed. The same seed gives the same anywhere.

    The stream is consumed in order: row after row, as many words as each row takes.
    """
    n, kernels, stream = context.ring_degree, context.kernels, Stream(seed)
    rows_left = sum(map(len, bases))
    # Few are left out of a prime just below a power of two; what is missing is drawn when it is missed.
    words = stream.words(n * rows_left + n // 8)
    polynomials = []
    for basis in bases:
        polynomial = residues((len(basis), n))
        for row, prime in zip(polynomial, basis, strict=True):
            missing = row
            while missing.size:
                found, used = kernels.uniform(prime, words, missing)
                missing, words = missing[found:], words[used:]
                if missing.size:
                    words = stream.words(n * rows_left)
            rows_left -= 1
        polynomials.append(polynomial)
    return polynomials


def errors(context: Context, count: int = 1) -> Doubles:
    """``count`` error polynomials, (count, N), in doubles."""
    n = context.ring_degree
    return context.kernels.binomial(Stream(fresh_seed()).words(count * n)).reshape(count, n)


def ternary_of(context: Context, stream: Stream) -> Doubles:
    """A polynomial whose coefficients are uniform over -1, 0 and 1, in doubles, of a stream."""
    out, found = doubles((context.ring_degree,)), 0
    while found < out.size:
        # Three of four pairs of bits are taken; a few more words make a second round rare.
        found += context.kernels.ternary(stream.words((out.size - found) // 24 + 12), out[found:])
    return out


def ternary(context: Context, seed: bytes) -> Doubles:
    """The same of a seed."""
    return ternary_of(context, Stream(seed))
