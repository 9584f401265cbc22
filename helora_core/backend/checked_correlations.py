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
    Cut,
    Floats,
    Integers,
    OnlineWeights,
    SupportsCorrelations,
    Switching,
    Words,
)
from helora_core.backend.word_checks import (
    DOUBLE,
    WORD,
    are_words,
    check_bits,
    check_count,
    check_integers,
    check_switching,
    check_words,
    in_one_piece,
    other_numbers,
    other_shapes,
)
from helora_core.errors import CorruptPayload, InvalidInput, InvalidParameters
from helora_core.params.ckks import WRAP_BITS, CKKSParams


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
        check_words(numbers, (None, self._params.ring_degree), f"{self._who} encrypt")
        return self._key("encrypt").encrypt(np.ascontiguousarray(numbers))

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        """c of each result in ``how.top_bits`` bits, shape (count, N).

        Raises:
            CorruptPayload: The bytes are not so many results.
            InvalidInput: No results are such, or the key was erased.
        """
        who = f"{self._who} decrypt"
        check_switching(how, self._params, who)
        check_count(count, who)
        library, shape = self._key("decrypt"), (count, self._params.ring_degree)
        found = checks.read(lambda: library.decrypt(payload, count, how), f"{count} results", who=who)
        if not are_words(found, shape) or (how.top_bits < WRAP_BITS and (found >> np.uint64(how.top_bits)).any()):
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
        check_integers(matrix, (self._rows, None), who)
        add = functools.partial(self._library.add, payload, np.ascontiguousarray(matrix))
        checks.read(add, f"{matrix.shape[1]} ciphertexts", who=who)

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        """``matrix`` times the sums, each re-randomised, switched and masked.

        Raises:
            InvalidInput: An argument does not fit the others.
        """
        who = f"{self._who} results"
        check_switching(how, self._params, who)
        check_integers(matrix, (None, self._rows), who)
        check_words(masks, (matrix.shape[0], self._params.ring_degree), who)
        if len(seed) != SEED_BYTES:
            raise InvalidInput(f"{who}: a seed of {len(seed)} bytes.", hint=f"Give {SEED_BYTES} secret bytes.")
        return self._library.results(np.ascontiguousarray(matrix), np.ascontiguousarray(masks), seed, how)


class CheckedOnlineWeights:
    """An ``OnlineWeights`` that takes only what fits its matrices."""

    def __init__(self, library: OnlineWeights, d_in: int, d_out: int, who: str) -> None:
        self._library = library
        self._d_in, self._d_out, self._row = d_in, d_out, (d_out,)
        self._who = who

    def answer(self, y: bytes, masks: Words, top_bits: int) -> bytes:
        """The top bits of U·(D·y) + mask of each output of each token, packed.

        Raises:
            InvalidInput: An argument does not fit the matrices or the others.
            CorruptPayload: The library gave other numbers.
        """
        if not masks.size or masks.shape[1:] != self._row or masks.dtype != WORD:
            check_words(masks, (None, self._d_out), f"{self._who} answer")
        tokens = len(masks)
        if len(y) != 8 * tokens * self._d_in:
            raise InvalidInput(
                f"{self._who} answer: {len(y)} bytes are not {tokens} times {self._d_in} words.",
                hint="Give y of as many tokens as there are masks for.",
            )
        if not 1 <= top_bits <= WRAP_BITS:
            check_bits(top_bits, f"{self._who} answer")
        found = self._library.answer(y, in_one_piece(masks), top_bits)
        if len(found) != (tokens * self._d_out * top_bits + 7) // 8:
            raise other_numbers(self._who, "answer", f"{tokens} times {self._d_out} numbers of {top_bits} bits")
        return found


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
        check_count(rows, f"{self._who} batch_sums")
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
            check_integers(matrix, (None, columns), who)
            columns = matrix.shape[0]
        if columns is None:
            raise InvalidInput(f"{who}: no matrices.", hint="Give at least one.")
        library = self._library.online_weights([np.ascontiguousarray(matrix) for matrix in matrices])
        return CheckedOnlineWeights(library, matrices[0].shape[1], columns, self._who)

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        """y = [x·factor] − pad modulo the wrap limb: words, little-endian.

        Args:
            x, factors, pads: As ``SupportsCorrelations.padded`` takes them.

        Raises:
            InvalidInput: They do not fit each other.
            CorruptPayload: The library gave other numbers.
        """
        shape = x.shape
        if x.dtype != DOUBLE or len(shape) != 2 or not x.size or factors.shape != shape[:1]:
            raise other_shapes(self._who, "padded", x, factors)
        if pads.shape != shape or pads.dtype != WORD or factors.dtype != DOUBLE:
            raise other_shapes(self._who, "padded", pads, factors)
        made = self._library.padded(in_one_piece(x), in_one_piece(factors), in_one_piece(pads))
        if len(made) != 8 * x.size:
            raise other_numbers(self._who, "padded", f"{x.size} words")
        return made

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        """v + c of what is kept of both, as signed numbers times factor: shape (tokens, outputs).

        Args:
            answers, results, cut, factors, outputs: As ``SupportsCorrelations.revealed`` takes them.

        Raises:
            InvalidInput: Factors, bits or a number of outputs that are not such.
            CorruptPayload: The bytes are not so many numbers, or the library gave others.
        """
        of_answers, of_results = cut
        tokens = factors.size
        if factors.dtype != DOUBLE or factors.ndim != 1 or not tokens or outputs < 1:
            raise InvalidInput(
                f"{self._who} revealed: {outputs} outputs, and factors of {factors.dtype} and shape {factors.shape}.",
                hint="Give a factor for each token, float64, and one or more outputs.",
            )
        if not 1 <= of_answers <= WRAP_BITS >= of_results >= 1:
            check_bits(of_answers, f"{self._who} revealed")
            check_bits(of_results, f"{self._who} revealed")
        expected = (tokens * outputs * of_answers + 7) // 8, tokens * ((outputs * of_results + 7) // 8)
        if (len(answers), len(results)) != expected:
            raise CorruptPayload(
                f"{self._who} revealed: {len(answers)} and {len(results)} bytes are not {tokens} times {outputs} "
                f"numbers of {of_answers} and of {of_results} bits.",
                hint="Use the same version of helora on both sides.",
            )
        found = self._library.revealed(answers, results, cut, in_one_piece(factors), outputs)
        if found.shape != (tokens, outputs) or found.dtype != DOUBLE:
            raise other_numbers(self._who, "revealed", f"{tokens} times {outputs} doubles")
        return found

    def pack(self, numbers: Words, bits: int) -> bytes:
        """Numbers below 2^bits, one after another from the lowest bit on: (size·bits + 7) // 8 bytes.

        Raises:
            InvalidInput: They are no such numbers.
        """
        who = f"{self._who} pack"
        check_bits(bits, who)
        if numbers.dtype != np.uint64 or (bits < WRAP_BITS and (numbers >> np.uint64(bits)).any()):
            raise InvalidInput(f"{who}: not unsigned words below 2^{bits}.", hint="Shift them down first.")
        return self._library.pack(np.ascontiguousarray(numbers), bits)

    def unpack(self, payload: bytes, count: int, bits: int) -> Words:
        """Undo ``pack``: shape (count,).

        Raises:
            CorruptPayload: The bytes are not so many numbers.
        """
        check_bits(bits, f"{self._who} unpack")
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
