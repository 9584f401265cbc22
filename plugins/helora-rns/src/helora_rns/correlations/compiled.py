"""Words by the compiled kernels."""

from __future__ import annotations

import math
import threading

import numpy as np

from helora_rns.arrays import address, residues
from helora_rns.compiled import CompiledKernels
from helora_rns.correlations.kernels import Bytes, Integers, PublicValues, Results, Secret, Words
from helora_rns.correlations.reference import NumPyWords
from helora_rns.correlations.ring import WRAP, WRAP_BITS, WordRing
from helora_rns.kernels import Doubles
from helora_rns.modular import Residues

_PAIR = (1 << 32) - 1
_SCRATCH_ROWS = 7


class _Public:
    """What ``hr_words_trimmed`` reads of a public key."""

    def __init__(self, ring: WordRing, words: Words, key: PublicValues) -> None:
        n = ring.ring_degree
        nothing = residues((0,))
        self.arrays = [key.words, key.residues, nothing, nothing]
        margin = 0
        if len(ring.limbs) == 2:
            differences = ring.kernels.sub(key.words, key.residues, ring.limbs)
            turned = residues((2, 2, n)).view(np.float64)
            turned[:, 0] = words.view(np.int64)[:, ::-1]
            np.negative(turned[:, 0], out=turned[:, 1])
            self.arrays[2:] = [differences, turned.view(np.uint64)]
            # Beyond this a sum of N words, each times −1, 0 or 1 at random, is with a chance of 2e^(−98) (Hoeffding).
            margin = math.isqrt(n << 2 * (WRAP_BITS - 1)) * 14 // ring.primes[0] + 1
        self.table = np.array([*map(address, self.arrays), margin], dtype=np.uint64)
        self.address = address(self.table)


class CompiledWords:
    """``helora_rns.correlations.kernels.WordKernels`` by one of the compiled sets."""

    def __init__(self, ring: WordRing, kernels: CompiledKernels) -> None:
        self._whole, self._local = ring, threading.local()
        self._kernels = kernels  # whose memory the ring is in
        self._c, self._ring = kernels.handle
        self._n, self._limbs = ring.ring_degree, len(ring.limbs)
        self._q1, self._inverse = ring.q1 % WRAP, pow(ring.q1, -1, WRAP)
        self._auxiliary, self._most = ring.auxiliary[0], ring.primes[ring.auxiliary[0]] // 2

    def forget(self) -> None:
        rows = getattr(self._local, "rows", None)
        if rows is not None:
            rows.fill(0)

    def gemm(self, weights: Integers, a: Words, out: Words, *, add: bool) -> None:
        rows, terms = weights.shape
        scratch = residues((self._c.hr_words_gemm_words(rows),))
        self._c.hr_words_gemm(
            self._ring, address(out), address(a), address(weights), rows, terms, a.shape[1], add, address(scratch)
        )

    def public(self, words: Words, residues: Residues) -> PublicValues:
        key = NumPyWords(self._whole).public(words, residues)
        return PublicValues(key.words, key.residues, _Public(self._whole, words, key))

    def trimmed(
        self,
        sums: tuple[Words, Residues],
        key: PublicValues,
        u: Doubles,
        mask: Words,
        bits: tuple[int, int],
        out: Bytes,
    ) -> bool:
        assert isinstance(key.own, _Public)
        arrays = [address(each) for each in (out, *sums)]
        is_close = self._c.hr_words_trimmed(
            self._ring, self._limbs, *arrays, key.own.address, address(u), self._inverse, address(mask), *bits,
            self._scratch(),
        )  # fmt: skip
        return not is_close

    def _scratch(self) -> int:
        rows = getattr(self._local, "rows", None)
        if rows is None:
            rows = self._local.rows = residues((_SCRATCH_ROWS, self._n))
        return address(rows)

    def encrypted(
        self, uniform: tuple[Words, Residues], random: Words, numbers: Words, secret: Secret, out: Bytes
    ) -> None:
        arrays = [address(each) for each in (out, *uniform, random, numbers)]
        self._c.hr_words_encrypted(self._ring, self._limbs, *arrays, self._q1, address(secret.minus), self._scratch())

    def unpacked(self, part: memoryview, words: Words, values: Residues) -> bool:
        arrays = [address(each) for each in (words, values, np.frombuffer(part, dtype=np.uint8))]
        return bool(self._c.hr_words_unpack(self._ring, self._limbs, *arrays))

    def randomised(
        self, sums: tuple[Words, Residues], key: PublicValues, u: Doubles, random: Words
    ) -> tuple[Words, Residues]:
        words, rows = residues((2, self._n)), residues((2, self._limbs, self._n))
        arrays = [address(each) for each in (words, rows, *sums, key.words, key.residues, u, random)]
        self._c.hr_words_randomised(self._ring, self._limbs, *arrays, self._scratch())
        return words, rows

    def quotient(self, words: Words, rows: Residues, mask: Words | None, bits: int) -> Words:
        out = residues((self._n,))
        arrays = [address(each) for each in (out, words, rows)]
        less = None if mask is None else address(mask)
        self._c.hr_words_quotient(self._ring, self._limbs, *arrays, self._inverse, less, bits)
        return out

    def opened(self, results: Results, secret: Secret, added: Words, top_bits: int, key_bits: int) -> Words:
        out = np.empty((results.count, self._n), dtype=np.uint64)
        # A sum of signed numbers of so many bits, as many as the secret has coefficients.
        shortest = self._auxiliary if secret.weight << key_bits - 1 <= self._most else _PAIR
        self._c.hr_words_opened(
            self._ring, shortest, address(out), address(np.frombuffer(results.payload, dtype=np.uint8)), results.count,
            results.stride, address(secret.minus), address(added), top_bits, key_bits, self._scratch(),
        )  # fmt: skip
        return out
