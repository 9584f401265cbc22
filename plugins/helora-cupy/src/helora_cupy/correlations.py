"""The server's side of a batch of correlations on the device: sums of the client's ciphertexts, and results of them.

The bytes are those of ``helora_rns.correlations.sums``; what is done there for one ciphertext is done here for many.
What is online, and the client's side, are microseconds or the client's own affair, and run on the CPU.
"""

from __future__ import annotations

import numpy as np

from helora_core.backend.correlations import SEED_BYTES, Switching
from helora_cupy.batches import BatchKernels
from helora_cupy.device import Array
from helora_cupy.running import Running
from helora_cupy.words import DeviceWords
from helora_rns import gemm
from helora_rns.correlations import streams, wire
from helora_rns.correlations.kernels import Integers, PublicValues, Sealed, Words
from helora_rns.correlations.keys import check_exact
from helora_rns.correlations.ring import WordRing
from helora_rns.correlations.streams import ROWS, Purpose
from helora_rns.correlations.sums import RNSBatchSums

TILE = 8 * ROWS
"""Ciphertexts that are held unpacked at a time: whole streams."""


class CupyBatchSums:
    """``helora_core.backend.correlations.BatchSums``."""

    def __init__(
        self, ring: WordRing, device: Running, kernels: BatchKernels, public_key: bytes, nonces: bytes, rows: int
    ) -> None:
        self._ring, self._device, self._kernels = ring, device, kernels
        self._words = DeviceWords(ring, kernels)
        self._made_of = public_key, nonces, rows
        with device.working():
            self._key = self._values(public_key, nonces)
            self._sums = self._sealed(rows)
            for part in self._sums:
                part.fill(0)
            device.finish()

    def _sealed(self, count: int) -> Sealed:
        n = self._ring.ring_degree
        return Sealed(self._device.empty((count, 2, n)), self._device.empty((count, 2, len(self._ring.limbs), n)))

    def _values(self, public_key: bytes, nonces: bytes) -> PublicValues:
        part, key = wire.key_part(self._ring, public_key, nonces), self._sealed(1)
        self._read(part, key, streams.nonces_seed(nonces), 0)
        return self._words.public(key.words[0], key.residues[0])

    def _read(self, packed: memoryview, tile: Sealed, seed: bytes, start: int) -> None:
        """Ciphertexts of which one polynomial is packed, and the other of a seed, from row ``start`` on."""
        ring, count = self._ring, len(tile.words)
        n, limbs = ring.ring_degree, len(ring.limbs)
        words, values = self._device.empty((count, n)), self._device.empty((count, limbs, n))
        if not self._words.unpacked_many(packed, words, values, wire.polynomial_bytes(ring)):
            raise wire.beyond()
        tile.words[:, 0], tile.residues[:, 0] = words, values
        primes = [ring.primes[i] for i in ring.limbs]
        bounds = [(2**64 - 1, 2**64 - 1), *(((1 << q.bit_length()) - 1, q - 1) for q in primes)]
        self._kernels.streams_of(
            _keys(seed, Purpose.UNIFORM, start, count), np.array(bounds, dtype=np.uint64), (tile.words[:, 1], 1),
            each=ROWS, count=count, second=tile.residues[:, 1], apart=(2 * n, 2 * limbs * n),
            budget=(1 + limbs) * n + n // 64,
        )  # fmt: skip

    def add(self, payload: bytes, matrix: Integers) -> None:
        count = matrix.shape[1]
        upload = wire.Upload(self._ring, payload, count)
        with self._device.working():
            # A copy, so that a payload that is refused half way has changed nothing.
            sums = Sealed(*(part.copy() for part in self._sums))
            for start in range(0, count, TILE):
                tile = self._sealed(min(TILE, count - start))
                self._read(upload.rows(start, len(tile.words)), tile, upload.seed, start)
                self._multiply(matrix[:, start : start + TILE], tile, sums, add=True)
            self._device.finish()
            self._sums = sums

    def _multiply(self, matrix: Integers, a: Sealed, out: Sealed, *, add: bool) -> None:
        """matrix · a, added to ``out`` or in its place."""
        ring, kernels, weights = self._ring, self._kernels, np.ascontiguousarray(matrix)
        self._words.gemm(weights, a.words.reshape(len(a.words), -1), out.words.reshape(len(out.words), -1), add=add)
        limbs = gemm.load(weights, kernels, ring.limbs)
        gemm.gemm(kernels, limbs, list(a.residues), list(out.residues), add=add)

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        check_exact(self._ring, how)
        if how.exact:
            return self._on_host().results(matrix, masks, seed, how)
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        used = np.flatnonzero(matrix.any(axis=0))  # modules that share an upload each have some of the sums
        own = slice(used[0], used[-1] + 1) if used.size else slice(0, 1)
        payload = wire.ResultsWriter(self._ring, how, len(matrix))
        with self._device.working():
            for start in range(0, len(matrix), TILE):
                rows = matrix[start : start + TILE, own]
                tile = self._sealed(len(rows))
                self._multiply(rows, Sealed(*(part[own] for part in self._sums)), tile, add=False)
                made = self._switched(tile, masks[start : start + TILE], seed, start, how)
                for row, part in enumerate(self._device.get(made), start):
                    payload.part(row, payload.size)[...] = part
        return payload.payload()

    def _switched(self, tile: Sealed, masks: Words, seed: bytes, start: int, how: Switching) -> Array:
        """Results, packed: (count, bytes)."""
        n, count, device = self._ring.ring_degree, len(tile.words), self._device
        out = device.empty((count, wire.result_bytes(self._ring, how)), np.uint8)
        u = self._kernels.ternary_of_streams(_keys(seed, Purpose.RESULTS, start, count), ROWS, count)
        hidden, bits = device.put(np.ascontiguousarray(masks)), (how.top_bits, how.key_bits)
        for row in self._words.results(tile, self._key, u, hidden, bits, out, None):
            errors = self._kernels.words(seed, _nonce(Purpose.ERRORS, start + row), 0, 2 * n)
            one = slice(row, row + 1)
            sums = tile.words[one], tile.residues[one]
            self._words.results(sums, self._key, u[one], hidden[one], bits, out[one], errors)
        return out

    def _on_host(self) -> RNSBatchSums:
        """The same on the CPU: exact results are rare."""
        with self._device.working():
            return RNSBatchSums.with_sums(
                self._ring, *self._made_of, Sealed(*(np.array(self._device.get(part)) for part in self._sums))
            )


def _nonce(purpose: Purpose, stream: int) -> bytes:
    return bytes([purpose]) + stream.to_bytes(7, "big") + bytes(4)


def _keys(seed: bytes, purpose: Purpose, start: int, count: int) -> list[tuple[bytes, bytes]]:
    """Seeds and nonces of the streams of so many rows, of which the first begins one."""
    return [(seed, _nonce(purpose, i)) for i in range(start // ROWS, -(-(start + count) // ROWS))]
