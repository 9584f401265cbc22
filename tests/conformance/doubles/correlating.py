"""Doubles that run plans ahead of time wrongly. Long, since there is one for each step that may go wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from doubles.honest import HonestBackend
from doubles.registry import caught_by
from helora_core.backend.correlations import Cut, Floats, Integers, Switching, Words
from helora_core.params.ckks import CKKSParams
from helora_numpy import correlations as emulated
from helora_numpy.correlations import EmulatedBatchKey, EmulatedBatchSums, EmulatedOnlineWeights
from helora_numpy.mixed import Mixed


def _double(law: str) -> Any:
    """The honest backend with another key, sums or weights."""

    def register(faulty: type) -> type:
        places = {
            EmulatedBatchKey: "batch_key_type",
            EmulatedBatchSums: "batch_sums_type",
            EmulatedOnlineWeights: "online_weights_type",
        }
        (place,) = (name for base, name in places.items() if issubclass(faulty, base))
        return caught_by(law)(type(faulty.__name__, (HonestBackend,), {place: faulty, "__doc__": faulty.__doc__}))

    return register


@caught_by("test_parameters_ahead_of_time_are_those_asked_for_and_secure")
class DropsTheWrapLimb(HonestBackend):
    """resolve returns parameters without the power of two.

    Built field by field, by code that is older than the field.
    """

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return msgspec.structs.replace(super().resolve(params), wrap_bits=0)


@_double("test_the_same_arguments_give_the_same_results_and_another_seed_others")
class LeavesOutReRandomising(EmulatedBatchSums):
    """Results leave without an encryption of zero.

    They decrypt to the same numbers, and G = ⌊W·a/q₁⌋, which shows W.
    """

    def _re_randomised(self, c0: Mixed, c1: Mixed, seed: bytes) -> tuple[Mixed, Mixed]:
        return c0, c1


@_double("test_the_same_arguments_give_the_same_results_and_another_seed_others")
class IgnoresTheSeed(EmulatedBatchSums):
    """Encryptions of zero are always the same.

    A seed that was fixed for a test. The difference of two results has none.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        self._seeds.clear()
        return super().results(matrix, masks, bytes(32), how)


@_double("test_the_same_arguments_give_the_same_results_and_another_seed_others")
class TakesHalfOfTheSeed(EmulatedBatchSums):
    """Only the first half of the seed is used.

    A key of 16 bytes is cut from one of 32.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        self._seeds.clear()
        return super().results(matrix, masks, seed[:16] * 2, how)


@_double("test_the_same_arguments_give_the_same_results_and_another_seed_others")
class DrawsResultsAnew(EmulatedBatchSums):
    """The same arguments give other bytes.

    Randomness of the operating system, the safest there is; but an upload that is repeated gets a second result.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        self._count = getattr(self, "_count", 0) + 1
        return super().results(matrix, masks, seed[:-1] + bytes([self._count % 256]), how)


@_double("test_equal_rows_of_a_result_have_nothing_in_common")
class OneZeroForAllRows(EmulatedBatchSums):
    """All rows of a result have the same encryption of zero.

    The number of the row is left out of what randomness is expanded from.
    """

    def _re_randomised(self, c0: Mixed, c1: Mixed, seed: bytes) -> tuple[Mixed, Mixed]:
        rows = len(c0.words)
        added = super()._re_randomised(c0.combined(_first(rows, 0)), c1.combined(_first(rows, 0)), seed)
        zeros = [each.combined(_first(rows, 1)) for each in added]
        return c0.plus(zeros[0]), c1.plus(zeros[1])


def _first(rows: int, factor: int) -> Integers:
    """The matrix that puts ``factor`` times the first row into all rows."""
    matrix = np.zeros((rows, rows), dtype=np.int64)
    matrix[:, 0] = factor
    return matrix


@_double("test_exact_results_are_exact")
class MasksWithTheFirstRow(EmulatedBatchSums):
    """All rows are masked with the first row's mask.

    A pointer that is not advanced.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        return super().results(matrix, masks[:1].repeat(len(masks), axis=0), seed, how)


@_double("test_exact_results_are_exact")
class LeavesOutMasks(EmulatedBatchSums):
    """Results are not masked.

    They are all that a client needs, which then has no use for the online answer.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        return super().results(matrix, np.zeros_like(masks), seed, how)


@_double("test_exact_results_are_flooded_by_a_quarter_of_q1")
class LeavesOutFloods(EmulatedBatchSums):
    """Exact results have no flood.

    They are right without it, and what is left of them is W times the client's own errors.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        flood, Mixed.flood = Mixed.flood, staticmethod(_no_flood)
        try:
            return super().results(matrix, masks, seed, how)
        finally:
            Mixed.flood = flood


def _no_flood(rng: np.random.Generator, shape: tuple[int, ...], primes: tuple[int, ...]) -> Mixed:
    return Mixed.of_integers(np.zeros(shape, dtype=np.int64), primes)


@_double("test_exact_results_are_flooded_by_a_quarter_of_q1")
class FloodsByOnePrime(EmulatedBatchSums):
    """The flood of exact results is as large as one prime, and not as q₁.

    Drawn in a word. It hides the same results forty bits worse.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        flood = Mixed.flood

        def short(rng: np.random.Generator, shape: tuple[int, ...], primes: tuple[int, ...]) -> Mixed:
            return Mixed.of_integers(rng.integers(-primes[0] // 4, primes[0] // 4, shape), primes)

        Mixed.flood = staticmethod(short)
        try:
            return super().results(matrix, masks, seed, how)
        finally:
            Mixed.flood = flood


@_double("test_trimmed_results_are_within_their_units_and_half_a_unit_low")
class RoundsResultsToTheNearest(EmulatedBatchSums):
    """The top bits are rounded, not cut off.

    It halves the error of a result; but the caller adds what a floor takes, so that Δ is half a unit too large.
    """

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        if not how.exact:
            masks = masks - np.uint64(1 << (63 - how.top_bits))
        return super().results(matrix, masks, seed, how)


@_double("test_sums_of_several_uploads_add_up")
class KeepsTheLastUpload(EmulatedBatchSums):
    """An upload replaces what there was.

    One upload a batch is all that most plans have.
    """

    def add(self, payload: bytes, matrix: Integers) -> None:
        self._c0, self._c1 = (each.minus(each) for each in (self._c0, self._c1))
        super().add(payload, matrix)


@_double("test_bytes_that_are_no_upload_change_nothing")
class AddsBeforeItReads(EmulatedBatchSums):
    """An upload that is refused has been added up to the end of its bytes.

    Ciphertexts are added as they come off the wire.
    """

    def add(self, payload: bytes, matrix: Integers) -> None:
        try:
            super().add(payload, matrix)
        except ValueError:
            shape, primes = self._c0.words.shape, self._c0.primes
            self._c0 = self._c0.plus(Mixed.uniform(np.random.default_rng(), shape, primes))
            raise


@_double("test_bytes_that_are_no_results_are_refused")
class ReadsWhatIsThere(EmulatedBatchKey):
    """Results are read up to what was asked for, and missing ones are zeros.

    A reader of a stream, in which other results may follow.
    """

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        bits = sum(emulated._result_bits(self._params, how))
        size = count * self._params.ring_degree * bits // 8
        return super().decrypt(payload[:size].ljust(size, b"\0"), count, how)


@_double("test_a_public_key_of_other_nonces_is_refused")
class TakesAnyPublicKey(EmulatedBatchSums):
    """A public key is not held to the nonces.

    Only one of its polynomials depends on them, and any bytes are a polynomial.
    """

    def __init__(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> None:
        honest = EmulatedBatchKey(params, nonces)
        super().__init__(params, honest.public_key, nonces, rows)
        self._power = int.from_bytes(public_key[:2].ljust(2, b"\0"), "little") % (2 * params.ring_degree)


@_double("test_the_key_of_another_batch_decrypts_nothing")
class OneKeyForAllBatches(EmulatedBatchKey):
    """The secret key is the same for all batches.

    Keys are the expensive part of a session; a server that changes results learns them bit by bit.
    """

    def __init__(self, params: CKKSParams, nonces: bytes) -> None:
        randbelow, emulated.secrets.randbelow = emulated.secrets.randbelow, lambda bound: 77
        try:
            super().__init__(params, nonces)
        finally:
            emulated.secrets.randbelow = randbelow


@_double("test_an_erased_key_does_nothing_more")
class KeepsTheKey(EmulatedBatchKey):
    """erase does nothing.

    Left to the garbage collector.
    """

    def erase(self) -> None:
        pass


@_double("test_two_uploads_of_the_same_numbers_have_nothing_in_common")
class OneSeedForAllUploads(EmulatedBatchKey):
    """The uniform polynomials of all uploads are expanded from one seed.

    Drawn once, with the key. Retries with fresh errors average to the key.
    """

    def encrypt(self, numbers: Words) -> bytes:
        token_bytes, emulated.secrets.token_bytes = emulated.secrets.token_bytes, lambda size: b"\x5a" * size
        try:
            return super().encrypt(numbers)
        finally:
            emulated.secrets.token_bytes = token_bytes


@_double("test_two_uploads_of_the_same_numbers_have_nothing_in_common")
class OnePolynomialForAllRows(EmulatedBatchKey):
    """All ciphertexts of an upload have one uniform polynomial.

    Expanded from the seed alone. Their differences are readable.
    """

    def encrypt(self, numbers: Words) -> bytes:
        with _uniform_drawn_as(lambda mixed, rows: mixed.combined(_first(rows, 1))):
            return super().encrypt(numbers)


class _uniform_drawn_as:  # noqa: N801
    """Within it, uniform polynomials are changed."""

    def __init__(self, change: Any) -> None:
        self._change, self._uniform = change, Mixed.uniform

    def __enter__(self) -> None:
        def changed(rng: np.random.Generator, shape: tuple[int, ...], primes: tuple[int, ...]) -> Mixed:
            return self._change(self._uniform(rng, shape, primes), shape[0])

        Mixed.uniform = staticmethod(changed)

    def __exit__(self, *_: object) -> None:
        Mixed.uniform = self._uniform


@_double("test_uploads_and_results_look_uniform")
class HidesResiduesOnly(EmulatedBatchKey):
    """The words of an upload are in the clear.

    A limb of another kind, with a path of its own, which no test of the primes sees.
    """

    def encrypt(self, numbers: Words) -> bytes:
        with _uniform_drawn_as(lambda mixed, rows: Mixed(np.zeros_like(mixed.words), mixed.residues, mixed.primes)):
            return super().encrypt(numbers)


class _DrawsErrors(EmulatedBatchKey):
    def errors(self, honest: Integers) -> Integers:
        raise NotImplementedError

    def encrypt(self, numbers: Words) -> bytes:
        honest = emulated._errors
        emulated._errors = lambda rng, shape: self.errors(honest(rng, shape))
        try:
            return super().encrypt(numbers)
        finally:
            emulated._errors = honest


@_double("test_errors_of_uploads_are_fresh_and_of_their_size")
class DrawsSmallErrors(_DrawsErrors):
    """Errors are half as large as they should be.

    Ones among eleven bits, and not among 42: a generator for another parameter set.
    """

    def errors(self, honest: Integers) -> Integers:
        return honest // 2


@_double("test_errors_of_uploads_are_fresh_and_of_their_size")
class DrawsBiasedErrors(_DrawsErrors):
    """Errors have a mean of one half.

    Rounding up what should be rounded to the nearest.
    """

    def errors(self, honest: Integers) -> Integers:
        return honest + (np.arange(honest.size).reshape(honest.shape) % 2)


@_double("test_errors_of_uploads_are_fresh_and_of_their_size")
class DrawsErrorsOnce(_DrawsErrors):
    """All uploads have the same errors.

    A buffer that is filled once. The difference of two uploads of known numbers has none, and shows the key.
    """

    def errors(self, honest: Integers) -> Integers:
        self._kept = getattr(self, "_kept", honest)
        return np.resize(self._kept, honest.shape)


@caught_by("test_messages_are_as_long_as_their_bits")
class SendsWholeWords(HonestBackend):
    """An upload is followed by as many bytes as it saves by packing its residues.

    A format that is sized for words. Whoever pays for bytes pays for 128 bits, and not for 105.
    """

    class batch_key_type(EmulatedBatchKey):  # noqa: N801
        def encrypt(self, numbers: Words) -> bytes:
            return super().encrypt(numbers) + bytes(23 * numbers.size // 8)

    class batch_sums_type(EmulatedBatchSums):  # noqa: N801
        def add(self, payload: bytes, matrix: Integers) -> None:
            super().add(payload[: len(payload) - 23 * matrix.shape[1] * self._params.ring_degree // 8], matrix)


@_double("test_answers_online_are_exact_modulo_the_word")
class AnswersInDoubles(EmulatedOnlineWeights):
    """Online answers are computed in doubles.

    A product of matrices in a library is faster, and right for small numbers.
    """

    def _top(self, y: Words, masks: Words, top_bits: int) -> Words:
        for matrix in self._transposed:
            exact = y.astype(np.float64) @ matrix.view(np.int64).astype(np.float64)
            y = np.fmod(exact, 2.0**63).astype(np.int64).astype(np.uint64)
        return (y + masks) >> np.uint64(64 - top_bits)


@_double("test_answers_online_are_exact_modulo_the_word")
class PacksTokensApart(EmulatedOnlineWeights):
    """Each token's answer begins at a byte of its own.

    As results that are kept do, and as a loop over tokens writes them. It makes no difference where a token's bits are
    whole bytes, which they are for most plans.
    """

    def answer(self, y: bytes, masks: Words, top_bits: int) -> bytes:
        size = len(y) // len(masks)
        rows = (super(PacksTokensApart, self).answer(y[t * size : (t + 1) * size], mask[np.newaxis], top_bits)
                for t, mask in enumerate(masks))  # fmt: skip
        return b"".join(rows)


@caught_by("test_pads_are_taken_off_the_nearest_integers")
class RoundsHalvesUp(HonestBackend):
    """Activations between two integers are rounded up.

    ⌊x + 1/2⌋ takes one operation less. On a coarse grid, activations of few bits are then too large on average.
    """

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        whole = np.floor(x * factors[:, np.newaxis] + 0.5)
        return (whole.astype(np.int64).view(np.uint64) - pads).tobytes()


@caught_by("test_pads_are_taken_off_the_nearest_integers")
class CutsFractionsOff(HonestBackend):
    """Activations are rounded towards zero.

    As a conversion to integers does by itself.
    """

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        return ((x * factors[:, np.newaxis]).astype(np.int64).view(np.uint64) - pads).tobytes()


@caught_by("test_pads_are_taken_off_the_nearest_integers")
class PadsWithHalfWords(HonestBackend):
    """Of pads, the lower half is used.

    Activations on the grid have 32 bits or fewer; the sign of y shows that of x.
    """

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        return super().padded(x, factors, pads & np.uint64(0xFFFFFFFF))


@caught_by("test_pads_are_taken_off_the_nearest_integers")
class ScalesAllAsTheFirst(HonestBackend):
    """All tokens have the first one's factor.

    Right for one token, which is what nearly all requests have.
    """

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        return super().padded(x, factors[:1].repeat(len(factors)), pads)


@caught_by("test_what_is_revealed_is_in_the_middle_of_its_units")
class RevealsTheLowEnd(HonestBackend):
    """What was cut off is taken to be zero.

    Every Δ is a unit too small, which is below the error bound, and gathers over layers.
    """

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        added = sum(1 << (64 - bits) >> 1 for bits in cut)
        return super().revealed(answers, results, cut, factors, outputs) - added * factors[:, np.newaxis]


@caught_by("test_what_is_revealed_is_in_the_middle_of_its_units")
class RevealsUnsigned(HonestBackend):
    """Sums are not taken as signed.

    A cast is left out: negative Δ become large ones.
    """

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        scale = factors[:, np.newaxis]
        found = super().revealed(answers, results, cut, factors, outputs)
        return np.where(found < 0, found + 2.0**64 * scale, found)


@caught_by("test_what_is_revealed_is_in_the_middle_of_its_units")
class AddsInDoubles(HonestBackend):
    """Answers and results become doubles before they are added.

    Both are uniform over all words, so that the sum wraps around for half of the values, and its low bits are lost.
    """

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        nothing = [self.pack(np.zeros(len(factors) * outputs, dtype=np.uint64), bits) for bits in cut]
        zeros = self.pack(np.zeros(outputs, dtype=np.uint64), cut.result_bits) * len(factors)
        first = super().revealed(answers, zeros, cut, factors, outputs)
        second = super().revealed(nothing[0], results, cut, factors, outputs)
        return first + second - super().revealed(nothing[0], zeros, cut, factors, outputs)


@caught_by("test_packed_numbers_are_their_bits_in_order")
class PacksFromTheTop(HonestBackend):
    """Numbers are packed from their highest bit on.

    NumPy's ``packbits`` unless it is told otherwise; both sides of one library agree.
    """

    def pack(self, numbers: Words, bits: int) -> bytes:
        shifts = np.arange(bits, dtype=np.uint64)[::-1]
        return np.packbits(((numbers[..., np.newaxis] >> shifts) & np.uint64(1)).astype(np.uint8).reshape(-1)).tobytes()

    def unpack(self, payload: bytes, count: int, bits: int) -> Words:
        every = np.unpackbits(np.frombuffer(payload, np.uint8))[: count * bits].reshape(count, bits).astype(np.uint64)
        return (every << np.arange(bits, dtype=np.uint64)[::-1]).sum(axis=1, dtype=np.uint64)


@_double("test_long_sums_are_exact")
class AddsUpTo4096Products(EmulatedBatchSums):
    """Of more than 4096 products, the others are left out.

    A block of a loop; the prototype's accumulator overflowed here.
    """

    def add(self, payload: bytes, matrix: Integers) -> None:
        super().add(payload, np.where(np.arange(matrix.shape[1]) < 4096, matrix, 0))
