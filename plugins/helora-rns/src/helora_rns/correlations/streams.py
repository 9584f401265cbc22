"""Randomness by row: what a seed expands to for each polynomial.

A stream is ChaCha20 under the seed. Its nonce is the purpose (1 byte), the number of the stream (7 bytes, big-endian)
and four zero bytes, so that no two streams of a seed have a block in common. One stream serves ``ROWS`` rows, in their
order. Seeds of which a public polynomial is expanded are public; all others are secret and used for one thing.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np

from helora_rns.arrays import residues
from helora_rns.correlations.ring import WordRing
from helora_rns.kernels import Doubles
from helora_rns.modular import Residues
from helora_rns.scheme.sampling import SEED_BYTES, Stream, fresh_seed, ternary_of

__all__ = [
    "SEED_BYTES",
    "Purpose",
    "RowStreams",
    "fresh_seed",
    "nonces_digest",
    "nonces_seed",
    "row_stream",
    "ternary_of",
    "uniform",
]

ROWS = 32
"""Rows of a stream."""

_NONCES = b"helora-rns: the uniform polynomial of a public key for correlations"
_DIGEST = b"helora-rns: the digest of nonces in a public key for correlations"


class Purpose(IntEnum):
    """What streams are for. Of a seed for results, each row has a stream of its own for errors and for the flood."""

    UNIFORM = 1
    ERRORS = 2
    RESULTS = 3
    FLOOD = 4


def row_stream(seed: bytes, purpose: Purpose, row: int) -> Stream:
    """The stream of one row."""
    return Stream(seed, bytes([purpose]) + row.to_bytes(7, "big") + bytes(4))


class RowStreams:
    """A stream for every ``ROWS`` rows, which are asked for in their order."""

    def __init__(self, seed: bytes, purpose: Purpose) -> None:
        self._seed, self._purpose, self._rows = seed, purpose, 0
        self._stream: Stream | None = None

    def next(self) -> Stream:
        """The stream of the next row, after what the rows before it took of it."""
        if self._stream is None or self._rows % ROWS == 0:
            self._stream = row_stream(self._seed, self._purpose, self._rows // ROWS)
        self._rows += 1
        return self._stream


def nonces_seed(nonces: bytes) -> bytes:
    """The seed that both parties' nonces make."""
    return _hashed(_NONCES, nonces)


def nonces_digest(nonces: bytes) -> bytes:
    """What a public key says of its nonces: 32 bytes."""
    return _hashed(_DIGEST, nonces)


def _hashed(domain: bytes, nonces: bytes) -> bytes:
    return hashlib.sha256(len(domain).to_bytes(8, "big") + domain + nonces).digest()


def uniform(ring: WordRing, stream: Stream, words: Residues, values: Residues) -> None:
    """Draw a uniform polynomial modulo q: words into (N,), and values modulo the primes of q₁ into (limbs, N)."""
    n = ring.ring_degree
    # Few are left out of a prime just below a power of two; what is missing is drawn when it is missed.
    drawn = stream.words((1 + len(values)) * n + n // 64)
    words[...], drawn = drawn[:n], drawn[n:]
    for i, missing in enumerate(values):
        while missing.size:
            found, used = ring.kernels.uniform(i, drawn, missing)
            missing, drawn = missing[found:], drawn[used:]
            if missing.size:
                drawn = stream.words((len(values) - i) * n)


def flood(ring: WordRing, stream: Stream) -> tuple[Residues, Residues]:
    """Integers uniform over −⌊q₁/4⌋ … ⌊q₁/4⌋: modulo 2^64, (N,), and modulo the primes of q₁, (limbs, N).

    Below 2^(bits of 2⌊q₁/4⌋) they are drawn, and those beyond 2⌊q₁/4⌋ once more; the rest less ⌊q₁/4⌋ is uniform.
    """
    n, most = ring.ring_degree, ring.q1 // 4
    top, low = divmod(2 * most, 1 << 64)
    mask = (1 << (2 * most).bit_length()) - 1
    low_mask, high_mask = np.uint64(mask & (1 << 64) - 1), np.uint64(mask >> 64)
    found = residues((2, n))
    at = 0
    while at < n:
        lows, highs = stream.words(2 * (n - at)).reshape(2, -1)
        lows, highs = lows & low_mask, highs & high_mask
        taken = (highs < np.uint64(top)) | ((highs == np.uint64(top)) & (lows <= np.uint64(low)))
        count = int(np.count_nonzero(taken))
        found[0, at : at + count], found[1, at : at + count] = lows[taken], highs[taken]
        at += count
    parts = [found[1], found[0] >> np.uint64(32), found[0] & np.uint64(0xFFFFFFFF)]
    rest = ring.kernels.of_parts([residues_as_doubles(part) for part in parts], (64, 32, 0), ring.limbs)
    shift = np.array([most % ring.primes[i] for i in ring.limbs], dtype=np.uint64)[:, np.newaxis]
    q = np.array([ring.primes[i] for i in ring.limbs], dtype=np.uint64)[:, np.newaxis]
    values = residues(rest.shape)
    values[...] = (rest + (q - shift)) % q
    words = residues((n,))
    np.subtract(found[0], np.uint64(most % (1 << 64)), out=words)
    return words, values


def residues_as_doubles(part: Residues) -> Doubles:
    """Integers below 2^52 as aligned doubles."""
    out = residues(part.shape).view(np.float64)
    out[...] = part
    return out
