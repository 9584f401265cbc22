"""The server's side of a batch: sums of the client's ciphertexts, and results made of them."""

from __future__ import annotations

import numpy as np

from helora_core.backend.correlations import SEED_BYTES, Switching
from helora_rns import gemm, modular
from helora_rns.arrays import aligned_copy, residues
from helora_rns.correlations import streams, wire
from helora_rns.correlations.choice import word_kernels
from helora_rns.correlations.kernels import Bytes, Integers, PublicValues, Sealed, Words
from helora_rns.correlations.keys import check_exact
from helora_rns.correlations.ring import WRAP, WordRing
from helora_rns.correlations.streams import Purpose
from helora_rns.kernels import Doubles
from helora_rns.modular import Residues

TILE = 64
"""Ciphertexts that are held unpacked at a time."""


def _sealed(ring: WordRing, count: int) -> Sealed:
    n = ring.ring_degree
    return Sealed(residues((count, 2, n)), residues((count, 2, len(ring.limbs), n)))


class RNSBatchSums:
    """``helora_core.backend.correlations.BatchSums``."""

    def __init__(self, ring: WordRing, public_key: bytes, nonces: bytes, rows: int) -> None:
        self._ring, self._words = ring, word_kernels(ring)
        self._key = self._values(public_key, nonces)
        self._sums = _sealed(ring, rows)
        for part in self._sums:
            part.fill(0)

    @classmethod
    def with_sums(cls, ring: WordRing, public_key: bytes, nonces: bytes, rows: int, sums: Sealed) -> RNSBatchSums:
        """A batch whose sums were made elsewhere."""
        batch = cls(ring, public_key, nonces, rows)
        batch._sums = Sealed(*map(aligned_copy, sums))
        return batch

    def _values(self, public_key: bytes, nonces: bytes) -> PublicValues:
        ring, key = self._ring, _sealed(self._ring, 1)
        words, values = key.words[0], key.residues[0]
        if not self._words.unpacked(wire.key_part(ring, public_key, nonces), words[0], values[0]):
            raise wire.beyond()
        stream = streams.row_stream(streams.nonces_seed(nonces), Purpose.UNIFORM, 0)
        streams.uniform(ring, stream, words[1], values[1])
        return self._words.public(words, values)

    def add(self, payload: bytes, matrix: Integers) -> None:
        ring, count = self._ring, matrix.shape[1]
        upload = wire.Upload(ring, payload, count)
        # A copy, so that a payload that is refused half way has changed nothing.
        sums, public = Sealed(*map(aligned_copy, self._sums)), streams.RowStreams(upload.seed, Purpose.UNIFORM)
        for start in range(0, count, TILE):
            tile = _sealed(ring, min(TILE, count - start))
            for i, (words, values) in enumerate(zip(*tile, strict=True), start):
                if not self._words.unpacked(upload.part(i), words[0], values[0]):
                    raise wire.beyond()
                streams.uniform(ring, public.next(), words[1], values[1])
            self._multiply(matrix[:, start : start + TILE], tile, sums, add=True)
        self._sums = sums

    def _multiply(self, matrix: Integers, a: Sealed, out: Sealed, *, add: bool) -> None:
        """matrix · a, added to ``out`` or in its place."""
        ring, weights = self._ring, np.ascontiguousarray(matrix)
        self._words.gemm(weights, a.words.reshape(len(a.words), -1), out.words.reshape(len(out.words), -1), add=add)
        limbs = gemm.load(weights, ring.kernels, ring.limbs)
        gemm.gemm(ring.kernels, limbs, list(a.residues), list(out.residues), add=add)

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        check_exact(self._ring, how)
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        ring, masks = self._ring, np.ascontiguousarray(masks)
        used = np.flatnonzero(matrix.any(axis=0))  # modules that share an upload each have some of the sums
        own = slice(used[0], used[-1] + 1) if used.size else slice(0, 1)
        random = streams.RowStreams(seed, Purpose.RESULTS)
        payload = wire.ResultsWriter(ring, how, len(matrix))
        for start in range(0, len(matrix), TILE):
            tile = _sealed(ring, len(matrix[start : start + TILE]))
            part = Sealed(*(array[own] for array in self._sums))
            self._multiply(matrix[start : start + TILE, own], part, tile, add=False)
            for row, sums in enumerate(zip(*tile, strict=True), start):
                u = streams.ternary_of(ring.context, random.next())
                self._write(payload.part(row, payload.size), sums, u, masks[row], seed, row, how)
        return payload.payload()

    def _write(
        self,
        part: Bytes,
        sums: tuple[Words, Residues],
        u: Doubles,
        mask: Words,
        seed: bytes,
        row: int,
        how: Switching,
    ) -> None:
        """One result, into its bytes."""
        ring, bits = self._ring, (how.top_bits, how.key_bits)
        if not how.exact and self._words.trimmed(sums, self._key, u, mask, bits, part):
            return
        errors = streams.row_stream(seed, Purpose.ERRORS, row).words(2 * ring.ring_degree)
        words, rows = self._words.randomised(sums, self._key, u, errors)
        if how.exact:
            flood = streams.flood(ring, streams.row_stream(seed, Purpose.FLOOD, row))
            words, rest = self._exact((words, rows), mask, flood)
            first = [ring.primes[0].bit_length()] * 2
            wire.pack_rows(ring, part, [*zip(words, bits, strict=True), *zip(rest, first, strict=True)])
            return
        quotients = [
            self._words.quotient(words[0], rows[0], mask, how.top_bits),
            self._words.quotient(words[1], rows[1], None, how.key_bits),
        ]
        wire.pack_rows(ring, part, zip(quotients, bits, strict=True))

    def _exact(
        self, clean: tuple[Words, Residues], mask: Words, flood: tuple[Words, Residues]
    ) -> tuple[Words, Residues]:
        """Flooded, divided by the second prime, and less the mask: modulo 2^64 and the first prime."""
        (words, rows), ring = clean, self._ring
        words[0] += flood[0]
        rows[0] = ring.kernels.add(aligned_copy(rows[0]), flood[1], ring.limbs)
        first, second = (np.array(prime, dtype=np.uint64) for prime in ring.primes[:2])
        inverse = pow(int(second), -1, WRAP)
        quotients = (words - rows[:, 1]) * np.uint64(inverse)
        rest = modular.sub(rows[:, 0], rows[:, 1] % first, first)
        rest = modular.multiply(rest, np.array(pow(int(second), -1, int(first)), dtype=np.uint64), first)
        quotients[0] -= mask * first
        return aligned_copy(quotients), aligned_copy(rest)
