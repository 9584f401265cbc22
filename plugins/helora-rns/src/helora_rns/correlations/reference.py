"""Words in NumPy, on any kernel set's transforms: the reference, and what runs where nothing was compiled."""

from __future__ import annotations

import numpy as np

from helora_rns import modular
from helora_rns.arrays import aligned_copy, residues
from helora_rns.correlations.kernels import Integers, PublicValues, Words
from helora_rns.correlations.ring import WRAP, WordRing
from helora_rns.kernels import Basis, Doubles
from helora_rns.modular import Moduli, Residues


def word(number: int) -> np.uint64:
    """An integer modulo 2^64."""
    return np.uint64(number % WRAP)


def of_doubles(values: Doubles) -> Words:
    """Integers in doubles, below 2^53 in size, as words."""
    return values.astype(np.int64).view(np.uint64)


class NumPyWords:
    """``helora_rns.correlations.kernels.WordKernels``, exact and slow."""

    def __init__(self, ring: WordRing) -> None:
        self._ring = ring
        self._kernels = ring.kernels
        self._q1 = word(ring.q1)
        self._inverse = word(pow(ring.q1, -1, WRAP))

    def _moduli(self, basis: Basis) -> Moduli:
        return np.array([self._ring.primes[i] for i in basis], dtype=np.uint64)[:, np.newaxis]

    def gemm(self, weights: Integers, a: Words, out: Words) -> None:
        out += weights.astype(np.uint64) @ a

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
        self, uniform: tuple[Words, Residues], errors: Doubles, numbers: Words, minus: Residues
    ) -> tuple[Words, Residues]:
        ring, kernels = self._ring, self._kernels
        words = self._product(uniform[0], minus[:2])
        words += of_doubles(errors)
        words += numbers * self._q1
        noise = kernels.values_of_doubles(errors, ring.limbs)
        kernels.multiply_add(uniform[1], minus[: len(ring.limbs)], noise, ring.limbs, out=noise)
        return words, noise

    def randomised(
        self, sums: tuple[Words, Residues], key: PublicValues, u: Doubles, errors: Doubles
    ) -> tuple[Words, Residues]:
        ring, kernels, limbs = self._ring, self._kernels, self._ring.limbs
        randomness = kernels.values_of_doubles(u, ring.pair)
        words = aligned_copy(sums[0])
        out = kernels.multiply_add(key.residues, randomness[: len(limbs)], sums[1], limbs)
        kernels.inverse(out, limbs)
        for i in range(2):
            words[i] += self._of_values(kernels.multiply(key.words[i], randomness[:2], ring.pair))
            words[i] += of_doubles(errors[i])
        noise = np.stack([kernels.of_doubles(error, limbs) for error in errors])
        kernels.add(out, aligned_copy(noise), limbs, out=out)
        return words, out

    def trimmed(
        self,
        sums: tuple[Words, Residues],
        key: PublicValues,
        u: Doubles,
        errors: Doubles,
        mask: Words,
        bits: tuple[int, int],
    ) -> Words:
        words, rows = self.randomised(sums, key, u, errors)
        out = residues(words.shape)
        for i, length in enumerate(bits):
            out[i] = self.quotient(words[i], rows[i])
            if i == 0:
                out[i] -= mask
            out[i] >>= np.uint64(64 - length)
        return out

    def quotient(self, words: Words, rows: Residues) -> Words:
        """⌊c/q₁⌋ modulo 2^64 of coefficients modulo 2^64 and the primes of q₁."""
        rest = rows[0]
        if len(rows) == 2:
            rest = rest + self._digit(rows, self._ring.limbs) * word(self._ring.primes[0])
        quotients: Words = (words - rest) * self._inverse
        return quotients

    def times_secret(self, words: Words, minus: Residues) -> Words:
        return np.uint64(0) - self._product(words, minus[:2])

    def short_times_secret(self, words: Words, minus: Residues) -> Words:
        auxiliary = self._ring.auxiliary
        rows = self.values_of_words(words, auxiliary)
        self._kernels.multiply(rows, minus[-1:], auxiliary, out=rows)
        self._kernels.inverse(rows, auxiliary)
        return np.uint64(0) - modular.centred(rows[0], self._moduli(auxiliary)[0]).view(np.uint64)
