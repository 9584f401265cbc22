"""What a kernel set computes with machine words. All sets give the same bits.

Words are uint64 and wrap around. A polynomial modulo 2^64·q₁ is (N,) words, of coefficients, and (limbs, N) residues,
values in the order of ``helora_rns.kernels``. Arrays are contiguous and aligned to 64 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from helora_rns.kernels import Doubles
from helora_rns.modular import Residues

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of numbers of so many bits."""
    return -(-count * bits // 8)


@dataclass(frozen=True, eq=False)
class PublicValues:
    """A public key as results read it, for both of its polynomials.

    Attributes:
        words: Its words modulo the two primes for products with words, as values: (2, 2, N).
        residues: (2, limbs, N).
        own: What else a kernel set wants of it.
    """

    words: Residues
    residues: Residues
    own: object = None


@dataclass(frozen=True, eq=False)
class Secret:
    """A ternary secret s.

    Attributes:
        minus: −s as values modulo all primes of the ring: (primes, N).
        weight: How many of its coefficients are not zero.
    """

    minus: Residues
    weight: int

    def __repr__(self) -> str:
        return "Secret()"


@dataclass(frozen=True, eq=False)
class Results:
    """Packed polynomials.

    Attributes:
        payload: ``count`` times as many bytes.
        count: How many.
        stride: Bytes of each, of which more may follow the two polynomials.
    """

    payload: memoryview
    count: int
    stride: int


class Sealed(NamedTuple):
    """Ciphertexts, or sums of them.

    Attributes:
        words: (count, 2, N).
        residues: (count, 2, limbs, N).
    """

    words: Words
    residues: Residues


class WordKernels(Protocol):
    """One ``WordRing``. Thread-safe: nothing is kept between calls but memory of each thread's own."""

    def forget(self) -> None:
        """Overwrite what this thread's calls left in that memory: products with a secret say what it is."""
        ...

    def gemm(self, weights: Integers, a: Words, out: Words, *, add: bool) -> None:
        """weights · a modulo 2^64, added to ``out`` or in its place.

        Args:
            weights: (rows, terms), contiguous, below 2^31 in size.
            a: (terms, columns), columns a multiple of 128.
            out: (rows, columns), not ``a``.
        """
        ...

    def public(self, words: Words, residues: Residues) -> PublicValues:
        """A public key, (2, N) words and (2, limbs, N) values, ready for use."""
        ...

    def encrypted(
        self, uniform: tuple[Words, Residues], random: Words, numbers: Words, secret: Secret, out: Bytes
    ) -> None:
        """b = −a·s + q₁·m + e, packed into ``out``: words, then values in as many bits as their primes have.

        Args:
            uniform: a, (N,) words and (limbs, N) values.
            random: (N,), of which e is made as ``Kernels.binomial`` does.
            numbers: m, (N,).
            secret: s.
            out: As many bytes as that takes.
        """
        ...

    def unpacked(self, part: memoryview, words: Words, values: Residues) -> bool:
        """Such bytes, into (N,) words and (limbs, N) values; whether these are below their primes."""
        ...

    def randomised(
        self, sums: tuple[Words, Residues], key: PublicValues, u: Doubles, random: Words
    ) -> tuple[Words, Residues]:
        """Both polynomials of a sum plus u times the key plus errors, all as coefficients: (2, N) and (2, limbs, N).

        Args:
            sums: (2, N) words, and (2, limbs, N) values.
            key: The public key.
            u: (N,), −1, 0 or 1.
            random: (2·N,), of which the errors are made.
        """
        ...

    def trimmed(
        self,
        sums: tuple[Words, Residues],
        key: PublicValues,
        u: Doubles,
        mask: Words,
        bits: tuple[int, int],
        out: Bytes,
    ) -> bool:
        """What ``quotient`` makes of ``randomised``, packed into ``out``, without errors; False if they could matter.

        Adding an integer of 21 or less changes a quotient by q₁ only next to a multiple of q₁. It is for u of which no
        coefficient is known, so that u times the key is as long as random sums are.

        Args:
            sums: As ``randomised`` takes them.
            key: The public key.
            u: (N,), −1, 0 or 1.
            mask: (N,), for the first polynomial.
            bits: Of each polynomial.
            out: As many bytes as both take.
        """
        ...

    def quotient(self, words: Words, rows: Residues, mask: Words | None, bits: int) -> Words:
        """The top bits of ⌊c/q₁⌋ − mask modulo 2^64, shifted down: (N,).

        Args:
            words: c modulo 2^64, (N,), of coefficients.
            rows: Modulo the primes of q₁, (limbs, N).
            mask: (N,), or None for none.
            bits: 1 to 64.
        """
        ...

    def opened(self, results: Results, secret: Secret, added: Words, top_bits: int, key_bits: int) -> Words:
        """h·2^(64 − top_bits) + g·2^(64 − key_bits)·s + added, rounded to ``top_bits`` bits, shifted down: (count, N).

        Args:
            results: h and g, packed.
            secret: s.
            added: (N,).
            top_bits: Of h, 1 to 64.
            key_bits: Of g.
        """
        ...
