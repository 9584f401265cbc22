"""Doubles that are right at the highest level and at the first use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from doubles.honest import HonestEncoder, HonestEvaluator, HonestRole, with_values
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import EmulatedPlaintext as Plaintext


@caught_by("test_sums_are_right_at_every_level")
class SubtractsWronglyAtTheLastLevel(HonestEvaluator):
    """At level 0, sub takes the first from the second.

    A branch of its own for one modulus, which nothing subtracts at.
    """

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        difference = super().sub(left, right)
        return difference if left.level else with_values(difference, -difference.values)


@caught_by("test_sums_are_right_at_every_level")
class NegatesTheFirstModulusAlone(HonestEvaluator):
    """Below the highest level, negate forgets one modulus: a quarter of the slots keep their sign.

    A loop over the moduli that ends one too early.
    """

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        negative = super().negate(ciphertext)
        quarter = np.arange(negative.values.size) % 4 == 0
        keep = quarter & (ciphertext.level < self.params.max_level)
        return with_values(negative, np.where(keep, ciphertext.values, negative.values))


@caught_by("test_products_are_right_at_every_level")
class MultipliesWronglyAtTheLastLevel(HonestEvaluator):
    """At level 0, a product is that of the absolute values.

    Plaintexts reduced as unsigned numbers, where there is one modulus only.
    """

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        product = super().multiply_plain(ciphertext, plaintext)
        return product if product.level else with_values(product, np.abs(product.values).astype(np.complex128))


@caught_by("test_every_encoding_is_right_at_every_level")
class EncodesWronglyInTheMiddle(HonestEncoder):
    """At level 1, the imaginary parts of plaintexts are lost.

    A cache of encoders by level, one of which was made for real values.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        plaintext = super().encode(values, level=level, scale=scale, encoding=encoding)
        return replace(plaintext, values=plaintext.values.real.astype(np.complex128)) if level == 1 else plaintext


@caught_by("test_bytes_keep_everything_at_every_level")
class SendsHalfAtTheLastLevel(HonestRole):
    """At level 0, single precision is sent.

    The download is compressed, and the last level is what is downloaded.
    """

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        if ciphertext.level == 0:
            ciphertext = with_values(ciphertext, ciphertext.values.astype(np.complex64).astype(np.complex128))
        return super().serialize(ciphertext)


@caught_by("test_scales_are_equal_to_the_last_bit_on_every_path")
class KeepsScalesAsLogarithms(HonestEvaluator):
    """A rescale computes its scale by logarithms, which is right but for the last bits.

    ``2 ** (bits - log2(prime))``: sums of what came by two paths are refused, or made at two scales.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        lower = super().rescale(ciphertext)
        prime = self.params.data_primes[ciphertext.level]
        return replace(lower, scale=2.0 ** (math.log2(ciphertext.scale) - math.log2(prime)))


@caught_by("test_scales_are_equal_to_the_last_bit_on_every_path")
class RoundsTheScaleOfRotations(HonestEvaluator):
    """rotate_many gives scales in single precision.

    A structure of C with a float in it, on one path.
    """

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        return [replace(each, scale=float(np.float32(each.scale))) for each in super().rotate_many(ciphertext, steps)]


@caught_by("test_many_steps_in_any_order_are_those_one_by_one")
class SortsManySteps(HonestEvaluator):
    """rotate_many of more than five steps gives its results in ascending order of steps.

    A batched kernel takes over where there is enough to do, and computes in the order of its keys.
    """

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        return super().rotate_many(ciphertext, sorted(steps) if len(steps) > 5 else steps)


@caught_by("test_many_steps_in_any_order_are_those_one_by_one")
class DropsRepeatedSteps(HonestEvaluator):
    """rotate_many gives each step once, and repeats the last one to fill up.

    A set of steps, padded to the size that was asked for.
    """

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        once = super().rotate_many(ciphertext, list(dict.fromkeys(steps)))
        return once + once[-1:] * (len(steps) - len(once))


@caught_by("test_operands_serve_again_and_again")
class SpendsItsOperands(HonestEvaluator):
    """The third rotation of a ciphertext is that of zeros.

    A ciphertext that is moved from, once a counter of references says that nobody else has it.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        uses = self.__dict__.setdefault("_uses", {})
        uses[id(ciphertext)] = [ciphertext, uses.get(id(ciphertext), (None, 0))[1] + 1]
        return rotated if uses[id(ciphertext)][1] < 3 else with_values(rotated, np.zeros_like(rotated.values))


@caught_by("test_one_plaintext_serves_many_ciphertexts")
class WearsPlaintextsOut(HonestEvaluator):
    """A plaintext is transformed in place whenever it is added, and the fourth time once too often.

    A flag that says "in NTT form", and is not set.
    """

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        uses = self.__dict__.setdefault("_uses", {})
        uses[id(plaintext)] = [plaintext, uses.get(id(plaintext), (None, 0))[1] + 1]
        if uses[id(plaintext)][1] > 3:
            plaintext = replace(plaintext, values=plaintext.values[::-1].copy())
        return super().add_plain(ciphertext, plaintext)


@caught_by("test_sums_of_products_take_operands_again")
class AddsRepeatedProductsOnce(HonestEvaluator):
    """dot_plain counts a ciphertext once, with the last of its plaintexts.

    A dictionary of operands.
    """

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Sequence[Plaintext]) -> Ciphertext:
        pairs = {id(pair[0]): pair for pair in zip(ciphertexts, plaintexts, strict=True)}
        total, *others = [self.multiply_plain(*pair) for pair in pairs.values()]
        for product in others:
            total = self.add(total, product)
        return total
