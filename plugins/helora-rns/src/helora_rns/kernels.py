"""What a kernel set computes, and where. All sets give the same bits: a scheme built on one runs on any other.

Arrays are the kernels' own: NumPy's, or a device's that work like them. Whoever computes with kernels takes new arrays
from ``empty``, and brings others over by ``to_device`` and ``to_host``.

A *polynomial* is an array of uint64, shape (limbs, N): row j holds canonical residues modulo the prime ``basis[j]``, an
index into ``primes``. Operations take any number of them, shape (count, limbs, N), aligned to 64 bytes and contiguous.
*Values* are the transform's: value i is the polynomial at psi^(2·rev(i) + 1), in bit-reversed order. Sums, products and
automorphisms are taken of values. ``out``, where it can be given, may be an operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from helora_rns.modular import Residues

Basis: TypeAlias = tuple[int, ...]
Doubles: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.uint32]
Array = TypeVar("Array", bound=NDArray[Any])

CHUNK = 8
"""Residues of one digit that stand together in a key: one cache line."""

MOST_TERMS = 256
"""Products that one ``dot`` adds up."""


class WordStream(Protocol):
    """The words that a seed and a nonce expand to, by ChaCha20 (RFC 8439): the same wherever it is made."""

    def words(self, count: int) -> Residues:
        """The next ``count`` words."""
        ...


class Kernels(Protocol):
    """One ring with its primes. Thread-safe: nothing is kept between calls."""

    name: str
    ring_degree: int
    primes: tuple[int, ...]

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> NDArray[Any]:
        """An array whose values are not set."""
        ...

    def to_device(self, array: Array) -> Array:
        """An array of the host's as one of the kernels': a copy, unless that is the same."""
        ...

    def to_host(self, array: Array) -> Array:
        """An array of the kernels' as one of the host's."""
        ...

    def private(self, array: Array) -> Array:
        """A copy in memory that is not kept for others, of an array that is then wiped: for what must stay secret."""
        ...

    def wipe(self, *arrays: NDArray[Any]) -> None:
        """Clear arrays for good, once nothing reads them any more."""
        ...

    def finish(self) -> None:
        """Wait until all that this thread has asked for is done: called before other threads are given the results."""
        ...

    def stream(self, seed: bytes, nonce: bytes = ...) -> WordStream:
        """The words of a seed of 32 bytes and a nonce of 12, which is zero unless it is given."""
        ...

    def forward(self, x: Residues, basis: Basis) -> None:
        """Coefficients to values, in place."""
        ...

    def inverse(self, x: Residues, basis: Basis) -> None:
        """Values to coefficients, in place."""
        ...

    def add(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues: ...

    def sub(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues: ...

    def negate(self, a: Residues, basis: Basis, out: Residues | None = None) -> Residues: ...

    def multiply(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        """a · b; ``b`` is as many polynomials as ``a``, or one."""
        ...

    def multiply_add(
        self, a: Residues, b: Residues, c: Residues, basis: Basis, out: Residues | None = None
    ) -> Residues:
        """a · b + c; ``b`` as in ``multiply``."""
        ...

    def times(self, a: Residues, constants: Sequence[int], basis: Basis, out: Residues | None = None) -> Residues:
        """Row j times constants[j], a residue modulo its prime."""
        ...

    def dot(self, a: Sequence[Residues], b: Sequence[Residues], basis: Basis) -> Residues:
        """Σ a[i] · b[i], up to ``MOST_TERMS``; each a[i] is (count, limbs, N), each b[i] one polynomial."""
        ...

    def gemm(
        self,
        weights: Sequence[NDArray[np.int64]],
        a: Sequence[Residues],
        basis: Basis,
        out: Sequence[Residues] | None = None,
        *,
        add: bool = False,
    ) -> list[Residues]:
        """Row i is Σ weights[:][i, k] · a[k]: a matrix of integers times as many polynomials as it has columns.

        Args:
            weights: For each limb a matrix of one shape, contiguous: integers of size q/2 or less modulo its prime.
            a: Each (count, limbs, N), of values or of coefficients.
            basis: The primes.
            out: As many results as there are rows, none of them in ``a``.
            add: Whether to add to what ``out`` holds.
        """
        ...

    def permute(self, a: Residues, index: Index) -> Residues:
        """out[…, i] = a[…, index[i]], for an index of ``primes.automorphism``."""
        ...

    def of_doubles(self, values: Doubles, basis: Basis) -> Residues:
        """The polynomial with these coefficients, integers below 2^99 in size: (limbs, N)."""
        ...

    def values_of_doubles(self, values: Doubles, basis: Basis) -> Residues:
        """``forward`` of ``of_doubles``."""
        ...

    def to_doubles(self, a: Residues, basis: Basis) -> Doubles:
        """The integers of least size that are ``a``, one polynomial's coefficients, in the last bits of doubles."""
        ...

    def mod_down(self, a: Residues, basis: Basis, dropped: int) -> Residues:
        """Divide by the product of the last ``dropped`` primes and round to the nearest; of values, to values.

        It is rescaling, and the end of a key switch. The integers that are subtracted are those of least
        size.
        """
        ...

    def decompose(self, a: Residues, basis: Basis, special: int) -> Residues:
        """Digits for a key switch: (limbs, limbs + special, N), digit i the residue modulo prime i, centred, as values.

        ``basis`` has the limbs of ``a``, one polynomial, and behind them the special primes.
        """
        ...

    def rotated(
        self, digits: Residues, key: Residues, added: Residues, indices: tuple[Index, Index], basis: Basis
    ) -> Residues:
        """Σ digits[i] · key[i], plus ``added`` on the first polynomial, permuted: (2, limbs + special, N).

        Args:
            digits: As ``decompose`` gives them.
            key: Of all primes of the ring, interleaved: (primes, N/8, digits, 2, 8); see ``interleaved``.
            added: (limbs, N); modulo the special primes it is zero.
            indices: Of ``primes.automorphism``, for the element and its inverse.
            basis: As in ``decompose``.
        """
        ...

    def uniform(self, prime: int, words: Residues, out: Residues) -> tuple[int, int]:
        """Residues uniform modulo primes[prime], into ``out``, until it is full or the random words are used up.

        Each word is masked to the prime's bits, and left out if that is not below the prime.

        Returns:
            How many were found, and how many of the words were gone through.
        """
        ...

    def uniform_polynomials(self, seeds: Sequence[bytes], basis: Basis, each: int = 1) -> Residues:
        """Uniform polynomials, ``each`` of every seed's stream, one after the other: (seeds · each, limbs, N).

        A stream is consumed in order: row after row, as many words as each row takes.
        """
        ...

    def binomial(self, words: Residues) -> Doubles:
        """An error a word: the ones in its bits 0 to 20 less those in bits 21 to 41. Its variance is 10.5."""
        ...

    def ternary(self, words: Residues, out: Doubles) -> int:
        """-1, 0 or 1 of each two bits of the words, the lowest first, that are not both set, into ``out``.

        Returns:
            How many were found.
        """
        ...

    def normal(self, words: Residues) -> Doubles:
        """Standard normal variates, one a word, of an even number of words; none exceeds 8.5."""
        ...

    def random_bits(self, words: Residues, bits: int) -> Doubles:
        """The integers of the words' highest bits, 52 or fewer."""
        ...

    def of_parts(self, parts: Sequence[Doubles], shifts: Sequence[int], basis: Basis) -> Residues:
        """``of_doubles`` of Σ parts[i]·2^shifts[i], for sums that no double holds: (limbs, N).

        Args:
            parts: One or more, each as ``of_doubles`` takes it.
            shifts: One for each, descending, the last 0.
            basis: The primes.
        """
        ...

    def pack(self, a: Residues, bits: int) -> bytes:
        """Numbers of so many bits, one after another from the lowest bit on."""
        ...

    def pack_into(self, out: NDArray[np.uint8], a: Residues, bits: int) -> None:
        """The same, into as many bytes as they take."""
        ...

    def unpack(self, payload: bytes | memoryview, count: int, bits: int, out: Residues | None = None) -> Residues:
        """Undo ``pack``."""
        ...

    def packed(self, rows: Residues, bits: Sequence[int]) -> bytes:
        """Rows, (count, N), one after another, each in as many whole bytes as it takes at its number of bits."""
        ...

    def unpacked(self, payload: bytes | memoryview, bits: Sequence[int], most: Sequence[int], out: Residues) -> bool:
        """Undo ``packed``; whether no number is larger than its row's ``most``."""
        ...

    def round_off(self, coefficients: Residues, bits: int, prime: int) -> None:
        """Replace coefficients below a prime by their quotients by 2^bits, rounded to the nearest, ties to even ones.

        A quotient whose multiple is the prime or more stands for zero, which is as close. Of uniform coefficients no
        mean is left.
        """
        ...

    def slots_to_coefficients(self, slots: NDArray[np.generic], factor: float) -> Doubles:
        """Integer coefficients, (N,), of the polynomial with these slots times factor·N/2; missing slots are zero.

        Args:
            slots: float64 or complex128, N/2 or fewer, contiguous.
            factor: A scale over N/2.
        """
        ...

    def coefficients_to_slots(self, coefficients: Doubles, factor: float) -> NDArray[np.complex128]:
        """The N/2 slots of the polynomial with these coefficients, times a factor; they are overwritten."""
        ...


def copied(kernels: Kernels, array: Array) -> Array:
    """A copy, in one piece, of an array that is where the kernels compute."""
    copy: Array = kernels.empty(array.shape, array.dtype)  # type: ignore[assignment]
    copy[...] = array
    return copy


def interleaved(key: Residues) -> Residues:
    """A key as ``rotated`` reads it, of (digits, 2, primes, N)."""
    digits, two, primes, n = key.shape
    blocks: Residues = key.reshape(digits, two, primes, n // CHUNK, CHUNK).transpose(2, 3, 0, 1, 4)
    return blocks


def of_interleaved(key: Residues) -> Residues:
    """Undo ``interleaved``."""
    primes, chunks, digits, two, chunk = key.shape
    whole: Residues = key.transpose(2, 3, 0, 1, 4).reshape(digits, two, primes, chunks * chunk)
    return whole
