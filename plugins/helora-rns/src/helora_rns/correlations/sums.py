"""The server's side of a batch: sums of the client's ciphertexts, and results made of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from helora_core.backend.correlations import SEED_BYTES, Switching
from helora_rns import gemm, modular
from helora_rns.arrays import aligned_copy, residues
from helora_rns.correlations import streams, wire
from helora_rns.correlations.choice import word_kernels
from helora_rns.correlations.kernels import Integers, PublicValues, Sealed, Words
from helora_rns.correlations.keys import check_exact
from helora_rns.correlations.ring import WRAP, WordRing
from helora_rns.correlations.streams import Purpose
from helora_rns.modular import Residues

TILE = 32
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

    def _values(self, public_key: bytes, nonces: bytes) -> PublicValues:
        ring, kernels, key = self._ring, self._ring.kernels, _sealed(self._ring, 1)
        words, values = key.words[0], key.residues[0]
        wire.read_key(ring, public_key, words[0], values[0])
        streams.uniform(ring, streams.nonces_seed(nonces), 0, words[1], values[1])
        moduli = np.array([ring.primes[i] for i in ring.pair], dtype=np.uint64)[:, np.newaxis]
        lifted = aligned_copy(modular.of_integers(words.view(np.int64)[:, np.newaxis], moduli))
        kernels.forward(lifted, ring.pair)
        return PublicValues(lifted, values)

    def add(self, payload: bytes, matrix: Integers) -> None:
        ring, count = self._ring, matrix.shape[1]
        upload = wire.Upload(ring, payload, count)
        # A copy, so that a payload that is refused half way has changed nothing.
        sums = Sealed(*map(aligned_copy, self._sums))
        for start in range(0, count, TILE):
            tile = _sealed(ring, min(TILE, count - start))
            for i, (words, values) in enumerate(zip(*tile, strict=True), start):
                upload.read(i, words[0], values[0])
                streams.uniform(ring, upload.seed, i, words[1], values[1])
            self._multiply(matrix[:, start : start + TILE], tile, sums)
        self._sums = sums

    def _multiply(self, matrix: Integers, a: Sealed, out: Sealed) -> None:
        """Add matrix · a to ``out``."""
        ring, weights = self._ring, np.ascontiguousarray(matrix)
        self._words.gemm(weights, a.words.reshape(len(a.words), -1), out.words.reshape(len(out.words), -1))
        found = gemm.gemm(ring.kernels, gemm.load(weights, ring.kernels, ring.limbs), list(a.residues))
        for total, part in zip(out.residues, found, strict=True):
            ring.kernels.add(total, part, ring.limbs, out=total)

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        check_exact(self._ring, how)
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        return wire.write_results(self._ring, how, self._results(matrix, masks, seed, how))

    def _results(
        self, matrix: Integers, masks: Words, seed: bytes, how: Switching
    ) -> Iterator[tuple[Words, Residues | None]]:
        ring = self._ring
        for start in range(0, len(matrix), TILE):
            tile = _sealed(ring, len(matrix[start : start + TILE]))
            for part in tile:
                part.fill(0)
            self._multiply(matrix[start : start + TILE], self._sums, tile)
            for row, sums in enumerate(zip(*tile, strict=True), start):
                stream = streams.row_stream(seed, Purpose.RESULTS, row)
                u = streams.ternary_of(ring.context, stream)
                errors = streams.errors(ring, stream, 2)
                mask = np.ascontiguousarray(masks[row])
                if how.exact:
                    clean = self._words.randomised(sums, self._key, u, errors)
                    yield self._exact(clean, mask, streams.flood(ring, streams.row_stream(seed, Purpose.FLOOD, row)))
                else:
                    bits = how.top_bits, how.key_bits
                    yield self._words.trimmed(sums, self._key, u, errors, mask, bits), None

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
