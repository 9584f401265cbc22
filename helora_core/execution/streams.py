"""Pseudorandom words: AES-256 of counters, and keys that are derived from seeds.

A key has rows of 64-bit words, any part of which can be made alone: words 2j and 2j + 1 of row i are the encryption of
the block j, i, both 64-bit numbers, little-endian. That is counter mode with counters of our own. A seed has a child
key for each use and sequence of names, SHA-256 of the seed and of the names with their lengths, so that no two uses
share a key. ``USES`` lists them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from helora_core.backend.correlations import SEED_BYTES as SEED_BYTES
from helora_core.backend.correlations import Words
from helora_core.backend.passphrase import primitive

_WHO = "Plans ahead of time"

_TILE = 64
"""Rows that are transposed at a time, while they are in the cache."""

_MOST_ROWS = 16
_MOST_BYTES = 1 << 16
"""How many rows are made before they are asked for, and how many bytes."""

USES = {
    "pad": b"helora pad",
    "mask": b"helora mask",
    "results": b"helora results",
    "batch": b"helora batch",
}
"""What streams and seeds are for: the client's r; the server's masks; all that re-randomising takes; a batch's secret,
of the server's random seed and of the upload."""


def child(seed: bytes, use: str, *names: bytes) -> bytes:
    """A seed or a key of its own for each use and sequence of names.

    Args:
        seed: Secret, ``SEED_BYTES`` long.
        use: A key of ``USES``.
        names: Whatever tells two keys of one use apart.
    """
    digest = hashlib.sha256(seed)
    for name in (USES[use], *names):
        digest.update(len(name).to_bytes(8, "big") + name)
    return digest.digest()


class Stream:
    """The rows of a key.

    Args:
        key: From ``child``; of one use.

    Raises:
        CapabilityMissing: The package ``cryptography`` is not installed.
    """

    def __init__(self, key: bytes) -> None:
        cipher = primitive("ciphers", "Cipher", _WHO)
        aes, ecb = primitive("ciphers.algorithms", "AES", _WHO), primitive("ciphers.modes", "ECB", _WHO)
        self._encryptor = cipher(aes(key), ecb()).encryptor()
        self._last = (0, -1), np.empty((0, 2), dtype="<u8"), np.empty(0, dtype=np.uint8)

    def row(self, number: int, first: int, end: int) -> Words:
        """Words ``first`` to ``end`` of one row: uint64, shape (1, end − first). Quick for the last call's columns."""
        columns, blocks, whole = self._last
        if columns != (first, end):
            pair, pairs = first // 2, (end + 1) // 2 - first // 2
            blocks = np.empty((pairs, 2), dtype="<u8")
            blocks[:, 0] = _numbers(pair, pairs)
            whole = blocks.reshape(-1).view(np.uint8)
            self._last = (first, end), blocks, whole
        blocks[:, 1] = number
        stream = np.empty(blocks.size + 2, dtype="<u8")  # the cipher asks for a block more than it writes
        self._encryptor.update_into(whole, stream.view(np.uint8))
        found: Words = stream[first % 2 : first % 2 + end - first].reshape(1, -1)
        return found

    def rows(self, start: int, count: int, first: int, end: int) -> Words:
        """Words ``first`` to ``end`` of rows ``start`` to ``start + count``: uint64, shape (count, end − first)."""
        if count == 1:
            return self.row(start, first, end)
        pair, pairs = first // 2, (end + 1) // 2 - first // 2
        blocks = np.empty((count, pairs, 2), dtype="<u8")
        blocks[:, :, 0] = _numbers(pair, pairs)
        blocks[:, :, 1] = _numbers(start, count)[:, np.newaxis]
        # The cipher asks for a block more than it writes.
        stream = np.empty(2 * count * pairs + 2, dtype="<u8")
        self._encryptor.update_into(blocks.reshape(-1).view(np.uint8), stream.view(np.uint8))
        found: Words = stream[:-2].reshape(count, 2 * pairs)[:, first % 2 : first % 2 + end - first]
        return found

    def columns(self, count: int, first: int, end: int) -> Words:
        """The first ``count`` rows, transposed: shape (end − first, count)."""
        out = np.empty((end - first, count), dtype=np.uint64)
        for start in range(0, count, _TILE):
            out[:, start : start + _TILE] = self.rows(start, min(_TILE, count - start), first, end).T
        return out


class Upcoming:
    """Rows of a stream that are asked for one after another: some are made at a time, since a call of the cipher costs
    more than a row.

    A row that was made ahead is given out once, and is then the caller's, who may overwrite it. One that is asked for
    again is made again.

    Args:
        stream: The stream.
        words: Words of a row.
    """

    def __init__(self, stream: Stream, words: int) -> None:
        self._stream, self._words = stream, words
        self._many = max(1, min(_MOST_ROWS, _MOST_BYTES // (8 * words)))
        self._made: Words = np.empty((0, words), dtype=np.uint64)
        self._next = self._end = 0

    @property
    def rows_ahead(self) -> int:
        """Rows that are made and were not given out."""
        return self._end - self._next

    def take(self, start: int, count: int) -> Words:
        """Rows ``start`` to ``start + count``: uint64, shape (count, words), nobody else's."""
        if start < self._next or start + count > self._end:
            if count >= self._many:
                return self._stream.rows(start, count, 0, self._words)
            self._made = self._stream.rows(start, self._many, 0, self._words)
            self._end = start + self._many
        self._next = start + count
        at = len(self._made) - (self._end - start)
        return self._made[at : at + count]


def joined(parts: Sequence[Words]) -> Words:
    """Rows of several streams, one after another; the parts are overwritten."""
    whole = np.concatenate(parts)
    for part in parts:
        part.fill(0)
    return whole


@functools.lru_cache(maxsize=64)
def _numbers(start: int, count: int) -> Words:
    return np.arange(start, start + count, dtype=np.uint64)
