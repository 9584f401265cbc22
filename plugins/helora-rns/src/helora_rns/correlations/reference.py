"""Words in NumPy, on any kernel set's transforms: the reference, and what runs where nothing was compiled."""

from __future__ import annotations

import numpy as np

from helora_rns import modular
from helora_rns.arrays import aligned_copy
from helora_rns.correlations.kernels import Bytes, Integers, PublicValues, Results, Secret, Words, packed_bytes
from helora_rns.correlations.ring import WRAP, WRAP_BITS, WordRing
from helora_rns.kernels import Basis, Doubles
from helora_rns.modular import Moduli, Residues


def word(number: int) -> np.uint64:
    """An integer modulo 2^64."""
    found: np.uint64 = np.uint64(number % WRAP)
    return found


def of_doubles(values: Doubles) -> Words:
    """Integers in doubles, below 2^53 in size, as words."""
    return values.astype(np.int64).view(np.uint64)


class NumPyWords:
    """``helora_rns.correlations.kernels.WordKernels``, exact and slow."""

    def __init__(self, ring: WordRing) -> None:
        self._ring = ring
        self._kernels = ring.kernels
        self._q1 = word(ring.q1)
        self._bits = [WRAP_BITS, *(ring.primes[i].bit_length() for i in ring.limbs)]
        self._inverse = word(pow(ring.q1, -1, WRAP))

    def _moduli(self, basis: Basis) -> Moduli:
        return np.array([self._ring.primes[i] for i in basis], dtype=np.uint64)[:, np.newaxis]

    def forget(self) -> None:
        """There is no such memory."""

    def gemm(self, weights: Integers, a: Words, out: Words, *, add: bool) -> None:
        product = weights.astype(np.uint64) @ a
        out[...] = out + product if add else product

    def public(self, words: Words, residues: Residues) -> PublicValues:
        values = [self.values_of_words(polynomial, self._ring.pair) for polynomial in words]
        return PublicValues(aligned_copy(np.stack(values)), residues)

    def trimmed(
        self,
        sums: tuple[Words, Residues],
        key: PublicValues,
        u: Doubles,
        mask: Words,
        bits: tuple[int, int],
        out: Bytes,
    ) -> bool:
        return False  # the reference has errors always

    def values_of_words(self, words: Words, basis: Basis) -> Residues:
        """Integers of least size as values: (limbs, N)."""
        rows = aligned_copy(modular.of_integers(words.view(np.int64), self._moduli(basis)))
        self._kernels.forward(rows, basis)
        return rows

    def _product(self, words: Words, values: Residues) -> Words:
        """Words times a polynomial of −1, 0 and 1, given by its values modulo the pair of primes, modulo 2^64."""
        pair = self._ring.pair
        return self._of_values(self._kernels.multiply(self.values_of_words(words, pair), values, pair))

    def _of_values(self, rows: Residues) -> Words:
        """The integers of least size with these values modulo the pair of primes, which are overwritten, as words."""
        self._kernels.inverse(rows, self._ring.pair)
        first, second = (self._moduli((i,))[0] for i in self._ring.pair)
        digit = modular.centred(self._digit(rows, self._ring.pair), second)
        words: Words = rows[0] + first * digit.view(np.uint64)
        return words

    def _digit(self, rows: Residues, basis: Basis) -> Residues:
        """The second digit of mixed radix (Garner): (x₂ − x₁)/p₁ modulo p₂."""
        first, second = (self._ring.primes[i] for i in basis)
        q = self._moduli(basis[1:])[0]
        inverse = np.array(pow(first, -1, second), dtype=np.uint64)
        return modular.multiply(modular.sub(rows[1], rows[0] % q, q), inverse, q)

    def encrypted(
        self, uniform: tuple[Words, Residues], random: Words, numbers: Words, secret: Secret, out: Bytes
    ) -> None:
        ring, kernels, errors = self._ring, self._kernels, self._kernels.binomial(random)
        words = self._product(uniform[0], secret.minus[:2])
        words += of_doubles(errors)
        words += numbers * self._q1
        noise = kernels.values_of_doubles(errors, ring.limbs)
        kernels.multiply_add(uniform[1], secret.minus[: len(ring.limbs)], noise, ring.limbs, out=noise)
        at = 0
        for row, bits in zip((words, *noise), self._bits, strict=True):
            end = at + packed_bytes(words.size, bits)
            kernels.pack_into(out[at:end], row, bits)
            at = end

    def unpacked(self, part: memoryview, words: Words, values: Residues) -> bool:
        at = 0
        for row, bits in zip((words, *values), self._bits, strict=True):
            end = at + packed_bytes(words.size, bits)
            self._kernels.unpack(part[at:end], words.size, bits, out=row)
            at = end
        return bool((values < self._moduli(self._ring.limbs)).all())

    def randomised(
        self, sums: tuple[Words, Residues], key: PublicValues, u: Doubles, random: Words
    ) -> tuple[Words, Residues]:
        ring, kernels, limbs = self._ring, self._kernels, self._ring.limbs
        errors = kernels.binomial(random).reshape(2, -1)
        values = kernels.values_of_doubles(u, ring.pair)
        out = kernels.multiply_add(key.residues, values[: len(limbs)], sums[1], limbs)
        kernels.inverse(out, limbs)
        kernels.add(out, aligned_copy(np.stack([kernels.of_doubles(each, limbs) for each in errors])), limbs, out=out)
        words = aligned_copy(sums[0])
        for i in range(2):
            words[i] += self._of_values(kernels.multiply(key.words[i], values, ring.pair))
            words[i] += of_doubles(errors[i])
        return words, out

    def quotient(self, words: Words, rows: Residues, mask: Words | None, bits: int) -> Words:
        rest = rows[0]
        if len(rows) == 2:
            rest = rest + self._digit(rows, self._ring.limbs) * word(self._ring.primes[0])
        quotients: Words = (words - rest) * self._inverse
        if mask is not None:
            quotients -= mask
        quotients >>= np.uint64(WRAP_BITS - bits)
        return quotients

    def opened(self, results: Results, secret: Secret, added: Words, top_bits: int, key_bits: int) -> Words:
        n, unpack, out = self._ring.ring_degree, self._kernels.unpack, np.empty((results.count, added.size), np.uint64)
        lost, missing = np.uint64(WRAP_BITS - top_bits), np.uint64(WRAP_BITS - key_bits)
        half, middle = np.uint64(1 << int(lost) >> 1), packed_bytes(n, top_bits)
        for i, row in enumerate(out):
            part = results.payload[i * results.stride : (i + 1) * results.stride]
            top = unpack(part[:middle], n, top_bits)
            second = unpack(part[middle : middle + packed_bytes(n, key_bits)], n, key_bits)
            # Integers of least size modulo 2^key_bits.
            signed = ((second << missing).view(np.int64) >> missing.view(np.int64)).view(np.uint64)
            product = self._product(signed, secret.minus[:2]) << missing
            row[...] = ((top << lost) + half + added - product) >> lost
        return out
