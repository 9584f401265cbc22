"""What a backend does for plans that run ahead of time: sums of products of ciphertexts with integers modulo 2^64·q₁,
and the online arithmetic modulo t = 2^64.

The modulus q = t·q₁ has a *wrap limb* t, a machine word, which uint64 arithmetic reduces by itself, and the primes of
``params.data_primes``, whose product is q₁. A number m modulo t is encrypted as (b, a), b = −a·s + q₁·m + e mod q: a
polynomial of N numbers for each feature, so that sums of products with integers are all that a server needs. Its
results leave as a *correlation*: re-randomised with the client's public key, divided by q₁ and rounded down, and less
a mask.

Numbers modulo t are uint64. Core has checked shapes, dtypes and sizes before it calls, and arrays are in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from helora_core.params.ckks import WRAP_BITS as WRAP_BITS
from helora_core.params.ckks import CKKSParams

NONCE_BYTES = 32
"""Bytes that each party contributes to the uniform polynomial of a public key."""

SEED_BYTES = 32

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Switching(NamedTuple):
    """How results leave the server. Let (c₀, c₁) be a re-randomised sum, H = ⌊c₀/q₁⌋ and G = ⌊c₁/q₁⌋ modulo t.

    Attributes:
        top_bits: Bits of H − mask that are kept, from the top, and of an online answer: 64 in exact mode.
        key_bits: Bits of G that are kept, from the top. In exact mode 64, and the client also gets what is left of both
            modulo the first prime, so that it rounds to the nearest and not down.
        exact: Whether W·m is to be found exactly. Then c₀ gets a flood first, uniform over −⌊q₁/4⌋ … ⌊q₁/4⌋, which
            hides the error; otherwise the division hides it.
    """

    top_bits: int
    key_bits: int
    exact: bool = False


class Cut(NamedTuple):
    """What is kept of two words that are added: an answer v, and the result c that was prepared for it.

    Attributes:
        answer_bits: Bits of v, from the top.
        result_bits: Bits of c, from the top.
    """

    answer_bits: int
    result_bits: int


class BatchKey(Protocol):
    """The client's key pair of one batch. No other batch has it, and it is erased when the batch is ready."""

    @property
    def public_key(self) -> bytes:
        """For ``SupportsCorrelations.batch_sums``. It contains no secret."""
        ...

    def encrypt(self, numbers: Words) -> bytes:
        """Ciphertexts of numbers modulo t, each with randomness of its own: shape (count, N), one ciphertext a row."""
        ...

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        """c = W·m − mask modulo t of each result, in ``how.top_bits`` bits (shifted down): shape (count, N).

        In exact mode it is exactly that. Otherwise it is ⌊(W·m − mask)/2^f⌋ for f = 64 − top_bits, give or take a few.
        """
        ...

    def erase(self) -> None:
        """Overwrite the secret key. ``encrypt`` and ``decrypt`` raise ValueError from then on."""
        ...


class BatchSums(Protocol):
    """The server's side of one batch: sums D·m of the client's ciphertexts, and results made of them."""

    def add(self, payload: bytes, matrix: Integers) -> None:
        """Add ``matrix`` times the ciphertexts of one ``BatchKey.encrypt`` to the sums.

        Args:
            payload: As ``encrypt`` made it, for as many numbers as the matrix has columns. Others raise any exception,
                and change nothing.
            matrix: int64, shape (rows, count), below 2^23 in size.
        """
        ...

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        """``matrix`` times the sums, each re-randomised, switched and masked: for ``BatchKey.decrypt``.

        The same arguments give the same bytes. Everything random that is added is expanded from the seed, differently
        for each row: no seed may be used for two different uploads, matrices or masks.

        Args:
            matrix: int64, shape (count, rows), below 2^23 in size.
            masks: Uniform modulo t, shape (count, N).
            seed: ``SEED_BYTES``, secret.
            how: How the results leave.
        """
        ...


class OnlineWeights(Protocol):
    """A module's integer matrices, ready for online answers."""

    def answer(self, y: bytes, masks: Words, top_bits: int) -> bytes:
        """v: the top bits of U·(D·y) + mask modulo t of each output of each token, packed as ``pack`` does.

        Args:
            y: Words, little-endian, d_in for each token.
            masks: Shape (tokens, d_out).
            top_bits: 1 to 64.
        """
        ...


@runtime_checkable
class SupportsCorrelations(Protocol):
    """A backend that plans which run ahead of time can use. Parameters are those that ``resolve`` returned."""

    def batch_key(self, params: CKKSParams, nonces: bytes) -> BatchKey:
        """A fresh key pair; the uniform polynomial of its public key is expanded from these bytes of both parties."""
        ...

    def batch_sums(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> BatchSums:
        """Sums that are all zero, for one batch. Bytes that are no public key for these nonces raise any exception."""
        ...

    def online_weights(self, matrices: Sequence[Integers]) -> OnlineWeights:
        """Matrices that are applied one after the other, each int64 and below 2^23 in size."""
        ...

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        """y = [x·factor] − pad modulo t: words, little-endian. [·] is the nearest integer, and of two the even one.

        Args:
            x: Shape (tokens, d_in).
            factors: Of each token, shape (tokens,): powers of two, by which x is below 2^51 in size.
            pads: Shape (tokens, d_in).
        """
        ...

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        """v + c modulo t as signed numbers, rounded to doubles, times factor: shape (tokens, outputs).

        Each is taken in the middle of what it may be, for the bits that were kept: half a unit is added to it, unless
        they are all 64.

        Args:
            answers: v, as ``OnlineWeights.answer`` packs it.
            results: c, packed row by row: each token's begins at a byte of its own.
            cut: How many bits of both.
            factors: Of each token, shape (tokens,): powers of two.
            outputs: Numbers of a token.
        """
        ...

    def pack(self, numbers: Words, bits: int) -> bytes:
        """Numbers below 2^bits, one after another from the lowest bit on: (size·bits + 7) // 8 bytes."""
        ...

    def unpack(self, payload: bytes, count: int, bits: int) -> Words:
        """Undo ``pack``: shape (count,)."""
        ...
