"""Correlations behind core's checks: a library only ever gets numbers, matrices and bytes that fit its batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from helora_core.backend import checks
from helora_core.backend.correlations import (
    NONCE_BYTES,
    SEED_BYTES,
    BatchKey,
    BatchSums,
    Integers,
    OnlineWeights,
    SupportsCorrelations,
    Switching,
    Words,
)
from helora_core.errors import CorruptPayload, InvalidInput, InvalidParameters
from helora_core.params.ckks import WRAP_BITS, CKKSParams

LARGEST_INTEGER = 1 << 23
"""Integers of weights are below this in size."""


class CheckedBatchKey:
    """A ``BatchKey`` that takes and gives only what fits its parameters."""

    def __init__(self, library: BatchKey, params: CKKSParams, who: str) -> None:
        self._library: BatchKey | None = library
        self._params = params
        self._who = who
        self.public_key = library.public_key

    def encrypt(self, numbers: Words) -> bytes:
        """Ciphertexts of numbers modulo the wrap limb, shape (count, N).

        Raises:
            InvalidInput: They are no such numbers, or the key was erased.
        """
        _check_words(numbers, (None, self._params.ring_degree), f"{self._who} encrypt")
        return self._key("encrypt").encrypt(np.ascontiguousarray(numbers))

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        """c of each result in ``how.top_bits`` bits, shape (count, N).

        Raises:
            CorruptPayload: The bytes are not so many results.
            InvalidInput: No results are such, or the key was erased.
        """
        who = f"{self._who} decrypt"
        _check_switching(how, self._params, who)
        _check_count(count, who)
        library, shape = self._key("decrypt"), (count, self._params.ring_degree)
        found = checks.read(lambda: library.decrypt(payload, count, how), f"{count} results", who=who)
        if not _are_words(found, shape) or (how.top_bits < WRAP_BITS and (found >> np.uint64(how.top_bits)).any()):
            raise CorruptPayload(
                f"{who}: the library gave other numbers than {count} results of {how.top_bits} bits.",
                hint="Report it to the author of the backend.",
            )
        return found

    def erase(self) -> None:
        """Overwrite the secret key. Erasing it again does nothing."""
        if self._library is not None:
            self._library.erase()
            self._library = None

    def _key(self, doing: str) -> BatchKey:
        if self._library is None:
            raise InvalidInput(
                f"{self._who} {doing}: the secret key of this batch was erased.", hint="Start a batch with a new key."
            )
        return self._library


class CheckedBatchSums:
    """A ``BatchSums`` that takes only what fits its rows and parameters."""

    def __init__(self, library: BatchSums, params: CKKSParams, rows: int, who: str) -> None:
        self._library = library
        self._params = params
        self._rows = rows
        self._who = who

    def add(self, payload: bytes, matrix: Integers) -> None:
        """Add ``matrix`` times the ciphertexts of one ``BatchKey.encrypt``: shape (rows, count).

        Raises:
            CorruptPayload: The bytes are not as many ciphertexts as the matrix has columns. The sums are as before.
            InvalidInput: The matrix has another shape, or integers that are too large.
        """
        who = f"{self._who} add"
        _check_integers(matrix, (self._rows, None), who)
        add = functools.partial(self._library.add, payload, np.ascontiguousarray(matrix))
        checks.read(add, f"{matrix.shape[1]} ciphertexts", who=who)

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        """``matrix`` times the sums, each re-randomised, switched and masked.

        Raises:
            InvalidInput: An argument does not fit the others.
        """
        who = f"{self._who} results"
        _check_switching(how, self._params, who)
        _check_integers(matrix, (None, self._rows), who)
        _check_words(masks, (matrix.shape[0], self._params.ring_degree), who)
        if len(seed) != SEED_BYTES:
            raise InvalidInput(f"{who}: a seed of {len(seed)} bytes.", hint=f"Give {SEED_BYTES} secret bytes.")
        return self._library.results(np.ascontiguousarray(matrix), np.ascontiguousarray(masks), seed, how)


class CheckedOnlineWeights:
    """An ``OnlineWeights`` that takes only what fits its matrices."""

    def __init__(self, library: OnlineWeights, d_in: int, d_out: int, who: str) -> None:
        self._library = library
        self._d_in, self._d_out = d_in, d_out
        self._who = who

    def answer(self, y: Words, masks: Words, top_bits: int) -> Words:
        """The top bits of U·(D·y) + mask, shifted down: shape (tokens, d_out).

        Raises:
            InvalidInput: An argument does not fit the matrices or the others.
        """
        who = f"{self._who} answer"
        _check_words(y, (None, self._d_in), who)
        _check_words(masks, (y.shape[0], self._d_out), who)
        _check_bits(top_bits, who)
        return self._library.answer(np.ascontiguousarray(y), np.ascontiguousarray(masks), top_bits)


class CheckedCorrelations:
    """The calls of ``SupportsCorrelations``, but with checked roles.

    Args:
        library: The backend.
        who: Its name.
    """

    def __init__(self, library: SupportsCorrelations, who: str) -> None:
        self._library = library
        self._who = who

    def batch_key(self, params: CKKSParams, nonces: bytes) -> CheckedBatchKey:
        """A fresh key pair of one batch.

        Args:
            params: Resolved parameters with a wrap limb.
            nonces: ``NONCE_BYTES`` of each party.

        Raises:
            InvalidParameters, InvalidInput: They are not such.
        """
        self._check(params, nonces, "batch_key")
        return CheckedBatchKey(self._library.batch_key(params, nonces), params, self._who)

    def batch_sums(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> CheckedBatchSums:
        """Sums that are all zero, for one batch.

        Raises:
            CorruptPayload: The bytes are no public key for these nonces.
            InvalidParameters, InvalidInput: Another argument is not valid.
        """
        self._check(params, nonces, "batch_sums")
        _check_count(rows, f"{self._who} batch_sums")
        make = functools.partial(self._library.batch_sums, params, public_key, nonces, rows)
        return CheckedBatchSums(checks.read(make, "a public key", who=self._who), params, rows, self._who)

    def online_weights(self, matrices: Sequence[Integers]) -> CheckedOnlineWeights:
        """Matrices that are applied one after the other.

        Raises:
            InvalidInput: There are none, they do not fit each other, or integers are too large.
        """
        who = f"{self._who} online_weights"
        columns: int | None = None
        for matrix in matrices:
            _check_integers(matrix, (None, columns), who)
            columns = matrix.shape[0]
        if columns is None:
            raise InvalidInput(f"{who}: no matrices.", hint="Give at least one.")
        library = self._library.online_weights([np.ascontiguousarray(matrix) for matrix in matrices])
        return CheckedOnlineWeights(library, matrices[0].shape[1], columns, self._who)

    def pack(self, numbers: Words, bits: int) -> bytes:
        """Numbers below 2^bits, one after another from the lowest bit on: (size·bits + 7) // 8 bytes.

        Raises:
            InvalidInput: They are no such numbers.
        """
        who = f"{self._who} pack"
        _check_bits(bits, who)
        if numbers.dtype != np.uint64 or (bits < WRAP_BITS and (numbers >> np.uint64(bits)).any()):
            raise InvalidInput(f"{who}: not unsigned words below 2^{bits}.", hint="Shift them down first.")
        return self._library.pack(np.ascontiguousarray(numbers), bits)

    def unpack(self, payload: bytes, count: int, bits: int) -> Words:
        """Undo ``pack``: shape (count,).

        Raises:
            CorruptPayload: The bytes are not so many numbers.
        """
        _check_bits(bits, f"{self._who} unpack")
        if count < 0 or len(payload) != (count * bits + 7) // 8:
            raise CorruptPayload(
                f"{self._who} unpack: {len(payload)} bytes are not {count} numbers of {bits} bits.",
                hint="Use the same version of helora on both sides.",
            )
        return self._library.unpack(payload, count, bits)

    def _check(self, params: CKKSParams, nonces: bytes, doing: str) -> None:
        if not params.wrap_bits or not params.data_primes:
            raise InvalidParameters(
                f"{self._who} {doing}: parameters without a wrap limb, or that are not resolved.",
                hint="Pass what resolve() returned for the parameters of a plan that runs ahead of time.",
            )
        if len(nonces) != 2 * NONCE_BYTES:
            raise InvalidInput(
                f"{self._who} {doing}: {len(nonces)} bytes of nonces.", hint=f"Give {NONCE_BYTES} of each party."
            )


def _are_words(numbers: Words, shape: tuple[int | None, ...]) -> bool:
    fits = len(numbers.shape) == len(shape) and all(
        length == wanted or (wanted is None and length) for length, wanted in zip(numbers.shape, shape, strict=True)
    )
    return fits and numbers.dtype == np.uint64


def _check_words(numbers: Words, shape: tuple[int | None, ...], who: str) -> None:
    if not _are_words(numbers, shape):
        raise InvalidInput(
            f"{who}: {numbers.dtype} of shape {numbers.shape}; it takes uint64 of {_shown(shape)}.",
            hint="Give numbers modulo the wrap limb.",
        )


def _check_integers(matrix: Integers, shape: tuple[int | None, int | None], who: str) -> None:
    fits = matrix.ndim == 2 and all(
        length == wanted or (wanted is None and length) for length, wanted in zip(matrix.shape, shape, strict=True)
    )
    if not fits or matrix.dtype != np.int64:
        raise InvalidInput(
            f"{who}: a matrix of {matrix.dtype} and shape {matrix.shape}; it takes int64 of {_shown(shape)}.",
            hint="Give the integers of helora_core.compiler.integers.",
        )
    if matrix.size and not -LARGEST_INTEGER < matrix.min() <= matrix.max() < LARGEST_INTEGER:
        raise InvalidInput(f"{who}: integers of 2^23 or more in size.", hint="Use a coarser grid of weights.")


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"


def _check_count(count: int, who: str) -> None:
    if count < 1:
        raise InvalidInput(f"{who}: a count of {count}.", hint="Give a number of rows, at least one.")


def _check_bits(bits: int, who: str) -> None:
    if not 1 <= bits <= WRAP_BITS:
        raise InvalidInput(f"{who}: numbers of {bits} bits.", hint=f"Give 1 to {WRAP_BITS}.")


def _check_switching(how: Switching, params: CKKSParams, who: str) -> None:
    _check_bits(how.top_bits, who)
    _check_bits(how.key_bits, who)
    if how.exact and (how.top_bits < WRAP_BITS or how.key_bits < WRAP_BITS or len(params.data_primes) < 2):
        raise InvalidInput(
            f"{who}: exact results of {how.top_bits} and {how.key_bits} bits, with {len(params.data_primes)} primes.",
            hint="Exact results keep all bits, and take two data primes.",
        )
