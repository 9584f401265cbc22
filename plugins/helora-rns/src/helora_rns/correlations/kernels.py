"""What a kernel set computes with machine words. All sets give the same bits.

Words are uint64 and wrap around. A polynomial modulo 2^64·q₁ is (N,) words, of coefficients, and (limbs, N) residues,
values in the order of ``helora_rns.kernels``. Arrays are contiguous and aligned to 64 bytes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from helora_rns.kernels import Doubles
from helora_rns.modular import Residues

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]


class PublicValues(NamedTuple):
    """A public key as results read it, for both of its polynomials.

    Attributes:
        words: Its words modulo the two primes for products with words, as values: (2, 2, N).
        residues: (2, limbs, N).
    """

    words: Residues
    residues: Residues


class Sealed(NamedTuple):
    """Ciphertexts, or sums of them.

    Attributes:
        words: (count, 2, N).
        residues: (count, 2, limbs, N).
    """

    words: Words
    residues: Residues


class WordKernels(Protocol):
    """One ``WordRing``. Thread-safe: nothing is kept between calls."""

    def gemm(self, weights: Integers, a: Words, out: Words) -> None:
        """Add weights · a to ``out`` modulo 2^64.

        Args:
            weights: (rows, terms), contiguous, below 2^31 in size.
            a: (terms, columns), columns a multiple of 128.
            out: (rows, columns), not ``a``.
        """
        ...

    def encrypted(
        self, uniform: tuple[Words, Residues], errors: Doubles, numbers: Words, minus: Residues
    ) -> tuple[Words, Residues]:
        """b = −a·s + q₁·m + e: (N,) words and (limbs, N) values.

        Args:
            uniform: a, as words and values.
            errors: (N,), integers.
            numbers: m, (N,).
            minus: −s as values modulo all primes of the ring.
        """
        ...

    def randomised(
        self, sums: tuple[Words, Residues], key: PublicValues, u: Doubles, errors: Doubles
    ) -> tuple[Words, Residues]:
        """Both polynomials of a sum plus u times the key plus errors, all as coefficients: (2, N) and (2, limbs, N).

        Args:
            sums: (2, N) words, and (2, limbs, N) values.
            key: The public key.
            u: (N,), −1, 0 or 1.
            errors: (2, N).
        """
        ...

    def trimmed(
        self,
        sums: tuple[Words, Residues],
        key: PublicValues,
        u: Doubles,
        errors: Doubles,
        mask: Words,
        bits: tuple[int, int],
    ) -> Words:
        """The top bits of ⌊c₀/q₁⌋ − mask and of ⌊c₁/q₁⌋ modulo 2^64, shifted down, for c as ``randomised``: (2, N)."""
        ...

    def times_secret(self, words: Words, minus: Residues) -> Words:
        """words · s modulo 2^64, (N,)."""
        ...

    def short_times_secret(self, words: Words, minus: Residues) -> Words:
        """The same if the integers of least size that words are, times s, are below half of the auxiliary prime."""
        ...
