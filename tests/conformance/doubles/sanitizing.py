"""Doubles that break properties that sanitising depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from doubles.controls import SanitizingBackend
from doubles.honest import HonestEncoder, HonestEvaluator
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.protocol import SLOTS, Sanitizing, Values
from helora_core.backend.short_results import LowBits
from helora_numpy.backend import EmulatedCiphertext, EmulatedPlaintext


@caught_by("test_encryptions_of_zero_are_fresh_at_every_level")
class RecyclesEncryptionsOfZero(HonestEvaluator):
    """Public-key encryptions of zero come from a pool of four.

    Zeros are all that a server encrypts, and preparing them is the obvious way to make sanitising fast.
    """

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> EmulatedCiphertext:
        if values.any():
            return super().encrypt_public(values, scale=scale, encoding=encoding)
        pool: dict[Any, Any] = self.__dict__.setdefault("_pool", {})
        self._asked = (getattr(self, "_asked", -1) + 1) % 4
        if (scale, self._asked) not in pool:
            pool[scale, self._asked] = super().encrypt_public(values, scale=scale, encoding=encoding)
        return pool[scale, self._asked]


@caught_by("test_encryptions_of_zero_are_fresh_at_every_level")
class EncryptsZeroTrivially(HonestEvaluator):
    """The public-key encryption of zero is the ciphertext of zeros.

    Libraries have a shortcut for plaintexts of zero, and it is the right sum.
    """

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> EmulatedCiphertext:
        sealed = super().encrypt_public(values, scale=scale, encoding=encoding)
        return sealed if values.any() else self._like(sealed, np.zeros_like(sealed.values))


@caught_by("test_a_sanitised_query_of_zeros_says_nothing_of_the_weights")
class LeavesOutIntegers(HonestEncoder):
    """A plaintext of integers adds nothing.

    An encoding that nothing else uses may go through a path that nobody has tried.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> EmulatedPlaintext:
        taken = np.zeros_like(values) if encoding is Encoding.INTEGERS else values
        return super().encode(taken, level=level, scale=scale, encoding=encoding)


@caught_by("test_floods_and_masks_are_as_large_as_asked")
class WrapsIntegersAtOneWord(HonestEncoder):
    """Integers are encoded modulo the first prime only.

    Words of 64 bits hold one residue, and a polynomial modulo many primes is many.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> EmulatedPlaintext:
        if encoding is Encoding.INTEGERS:
            values = np.stack([values[0] % np.uint64(prime) for prime in self.params.data_primes[: level + 1]])
        return super().encode(values, level=level, scale=scale, encoding=encoding)


@caught_by("test_equal_queries_agree_in_what_is_read_alone")
class RemembersIntegers(HonestEncoder):
    """Integers are encoded once for each level and scale.

    A cache whose key leaves out the values gives the first ones for all that come later.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> EmulatedPlaintext:
        if encoding is not Encoding.INTEGERS:
            return super().encode(values, level=level, scale=scale, encoding=encoding)
        cache: dict[Any, EmulatedPlaintext] = self.__dict__.setdefault("_cache", {})
        if (level, scale) not in cache:
            cache[level, scale] = super().encode(values, level=level, scale=scale, encoding=encoding)
        return cache[level, scale]


@caught_by("test_masked_values_are_uniform_and_unmask_exactly")
class CutsResidues(HonestEncoder):
    """Residues lose their lowest 28 bits.

    Words that pass through single precision, somewhere on the way, have 24 left.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> EmulatedPlaintext:
        taken = values - values % np.uint64(1 << 28) if encoding is Encoding.INTEGERS else values
        return super().encode(taken, level=level, scale=scale, encoding=encoding)


@caught_by("test_noise_under_the_floods_of_a_plan_is_hidden")
class SwitchesKeysNoisily(HonestEvaluator):
    """A rotation adds eight times the noise of a key switch.

    Libraries cut digits as they please, and special primes may be shorter than the plan takes them for.
    """

    def rotate(self, ciphertext: EmulatedCiphertext, steps: int) -> EmulatedCiphertext:
        honest = self._noisy

        def noisily(values: Any, std: Any, scale: float) -> Any:
            return honest(values, 8 * std, scale)

        self._noisy = noisily  # type: ignore[method-assign]
        try:
            return super().rotate(ciphertext, steps)
        finally:
            del self._noisy


def _sanitizes(law: str) -> Any:
    def register(evaluator: type) -> type:
        names = {"evaluator_type": evaluator, "__doc__": evaluator.__doc__}
        return caught_by(law)(type(evaluator.__name__, (SanitizingBackend,), names))

    return register


@_sanitizes("test_sanitised_results_are_random_anew_each_time")
class SharesOneZero(SanitizingBackend.evaluator_type):
    """The results of one message are re-randomised by one encryption of zero.

    A pool is filled for each message, and one is what is left of it.
    """

    def sanitize_many(self, ciphertexts: Sequence[Any], how: Sequence[Sanitizing]) -> list[Any]:
        zero = self._rerandomized(self._like(ciphertexts[0], np.zeros(self.params.slots, dtype=np.complex128)))
        self._rerandomized = lambda ciphertext: self.add(ciphertext, zero)  # type: ignore[method-assign]
        try:
            return super().sanitize_many(ciphertexts, how)
        finally:
            del self._rerandomized


@_sanitizes("test_a_sanitised_query_of_zeros_says_nothing_of_the_weights")
class LeavesTheFloodOut(SanitizingBackend.evaluator_type):
    """Results are re-randomised and not flooded.

    Noise is what one gets rid of.
    """

    def sanitize_many(self, ciphertexts: Sequence[Any], how: Sequence[Sanitizing]) -> list[Any]:
        return [self._rerandomized(each) for each in ciphertexts]


@_sanitizes("test_floods_and_masks_are_as_large_as_asked")
class TakesMaskBitsForTheFlood(SanitizingBackend.evaluator_type):
    """Places to be masked get only the flood.

    Two sizes in a row, of which a kernel takes one.
    """

    def sanitize_many(self, ciphertexts: Sequence[Any], how: Sequence[Sanitizing]) -> list[Any]:
        return super().sanitize_many(ciphertexts, [each._replace(mask_bits=each.flood_bits) for each in how])


@_sanitizes("test_sanitising_many_gives_each_its_own")
class SanitizesAllLikeTheFirst(SanitizingBackend.evaluator_type):
    """All results of a message are sanitised like the first.

    One launch for all, with one set of arguments.
    """

    def sanitize_many(self, ciphertexts: Sequence[Any], how: Sequence[Sanitizing]) -> list[Any]:
        return super().sanitize_many(ciphertexts, [how[0]] * len(how))


@_sanitizes("test_clean_results_are_divided_as_asked")
class DividesNothing(SanitizingBackend.evaluator_type):
    """Clean results stay at their level.

    What is sent is the same, only more of it.
    """

    def sanitize_many(self, ciphertexts: Sequence[Any], how: Sequence[Sanitizing]) -> list[Any]:
        return super().sanitize_many(ciphertexts, [each._replace(dropped=0) for each in how])


@caught_by("test_dropped_bits_leave_an_error_of_their_size_and_no_mean")
class CutsLowBitsOff(HonestEvaluator):
    """Coefficients are rounded down.

    A shift is the obvious way to drop bits.
    """

    def shortened(self, ciphertext: EmulatedCiphertext, low_bits: LowBits) -> EmulatedCiphertext:
        n, short = self.params.ring_degree, super().shortened(ciphertext, low_bits)
        rest = np.full(n, -(2.0 ** low_bits[0]) / 2)
        return replace(short, values=short.values + coefficients_to_slots(rest, n) / short.scale)


@caught_by("test_dropped_bits_leave_an_error_of_their_size_and_no_mean")
class DropsTheSameOfBoth(HonestEvaluator):
    """Both polynomials lose the bits that were asked for of the first.

    Two numbers in a row, of which a kernel takes one.
    """

    def shortened(self, ciphertext: EmulatedCiphertext, low_bits: LowBits) -> EmulatedCiphertext:
        return replace(super().shortened(ciphertext, (low_bits[0], low_bits[0])), low_bits=low_bits)


@caught_by("test_short_results_say_what_they_have_lost")
class ForgetsWhatItDropped(HonestEvaluator):
    """A short result passes for a whole one.

    What is sent is of the same length, so why say it.
    """

    def shortened(self, ciphertext: EmulatedCiphertext, low_bits: LowBits) -> EmulatedCiphertext:
        return replace(super().shortened(ciphertext, low_bits), low_bits=(0, 0))
