"""Ciphertexts and plaintexts: polynomials by their values, with level and scale; and results that lost low bits."""

from __future__ import annotations

from dataclasses import dataclass

from helora_rns.modular import Residues


@dataclass(frozen=True, eq=False)
class Plaintext:
    """An encoded polynomial.

    Attributes:
        values: (rows, N), modulo the data primes of its level, and the special ones behind them unless it is integers.
        level: Of the ciphertexts that it goes with.
        scale: By which numbers were multiplied.
    """

    values: Residues
    level: int
    scale: float

    @property
    def data(self) -> Residues:
        """Its rows modulo the data primes: (level + 1, N)."""
        return self.values[: self.level + 1]


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """Two polynomials: the message is values[0] + values[1] · s.

    Attributes:
        values: (2, level + 1, N).
        level: Rescales that are left.
        scale: Exact factor between numbers and the message.
        seed: What values[1] was expanded from, if it is fresh and symmetric; then it travels in its place.
    """

    values: Residues
    level: int
    scale: float
    seed: bytes | None = None


@dataclass(frozen=True, eq=False)
class ShortCiphertext:
    """A result at level 0 as it is sent: two polynomials by their coefficients, without low bits.

    Attributes:
        quotients: (2, 1, N): coefficients modulo the base prime, over 2 to ``low_bits`` of their polynomial.
        low_bits: How many bits each polynomial has lost.
        scale: Exact factor between numbers and the message.
    """

    quotients: Residues
    low_bits: tuple[int, int]
    scale: float
    level: int = 0
