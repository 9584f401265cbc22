"""Doubles that lose track of levels and scales, or combine operands that do not match."""

from __future__ import annotations

from dataclasses import replace

from doubles.honest import HonestDecryptor, HonestEncoder, HonestEvaluator, with_values
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import EmulatedPlaintext as Plaintext


@caught_by("test_any_scale_round_trips")
class IgnoresTheScaleAskedFor(HonestDecryptor):
    """Everything is encrypted at the parameters' scale.

    A global scale set at start-up, as TenSEAL's ``context.global_scale``.
    """

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        return super().encrypt(values, scale=2.0**self.params.scale_bits, encoding=encoding)


@caught_by("test_a_fresh_ciphertext_has_the_highest_level_and_the_scale_asked_for")
class EncryptsOneLevelBelow(HonestDecryptor):
    """A fresh ciphertext is one level below the highest.

    A library that takes the last data prime for its special one.
    """

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        return replace(super().encrypt(values, scale=scale, encoding=encoding), level=self.params.max_level - 1)


@caught_by("test_multiplication_keeps_the_level_and_multiplies_the_scale")
class KeepsTheScaleOfProducts(HonestEvaluator):
    """A product says it has the scale of its first factor.

    Scales tracked by hand in a wrapper, and forgotten in one place; the values come out 2^40 too large.
    """

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        product = super().multiply_plain(ciphertext, plaintext)
        return replace(product, values=product.values * plaintext.scale, scale=ciphertext.scale)


@caught_by("test_rescale_takes_one_level_and_keeps_the_value")
class ForgetsTheLevelOfARescale(HonestEvaluator):
    """rescale divides, and the level stays.

    A level counted by the wrapper beside the library's own.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        return replace(super().rescale(ciphertext), level=ciphertext.level)


@caught_by("test_a_product_of_depth_two_is_right")
class RescalesNothing(HonestEvaluator):
    """rescale returns its argument, though rescaling is claimed to be explicit.

    OpenFHE's automatic modes, in which ``Rescale`` does nothing.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        super().rescale(ciphertext)
        return ciphertext


@caught_by("test_rescale_divides_the_scale_by_the_prime_and_not_by_a_power_of_two")
class TakesPrimesForPowersOfTwo(HonestEvaluator):
    """rescale says that it divides by 2^40, and divides by a prime near it.

    Nominal scales: OpenFHE's FIXED modes keep them, and whoever compares scales finds them equal.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        prime = self.params.data_primes[ciphertext.level]
        nominal = 2.0 ** self.params.data_bits[ciphertext.level]
        lower = super().rescale(ciphertext)
        return replace(lower, values=lower.values * (nominal / prime), scale=ciphertext.scale / nominal)


@caught_by("test_negation_costs_no_level")
class NegatesAtTheCostOfALevel(HonestEvaluator):
    """negate takes a level.

    Negation as a product with -1 and a rescale.
    """

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        negative = super().negate(ciphertext)
        return replace(negative, level=max(negative.level - 1, 0))


@caught_by("test_add_is_the_slotwise_sum")
class AddsAtTheCostOfALevel(HonestEvaluator):
    """A sum is one level below its operands.

    A library that rescales "to be on the safe side" after every operation.
    """

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        total = super().add(left, right)
        return replace(total, level=max(total.level - 1, 0))


@caught_by("test_a_larger_ring_keeps_the_laws_too")
class IsWrittenForOneRing(HonestEvaluator):
    """rescale is right at N = 8192 alone.

    A table made for the ring of the examples; only ``--thorough`` looks at another.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        lower = super().rescale(ciphertext)
        return lower if self.params.ring_degree == 8192 else with_values(lower, lower.values * 1.001)


@caught_by("test_a_plaintext_has_the_scale_asked_for")
class EncodesAtOneScale(HonestEncoder):
    """Every plaintext is encoded at the parameters' scale.

    A scale that belongs to the context; plans give weights scales of their own.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        return super().encode(values, level=level, scale=2.0**self.params.scale_bits, encoding=encoding)


@caught_by("test_a_fresh_ciphertext_has_the_highest_level_and_the_scale_asked_for")
class CountsLevelsUpwards(HonestDecryptor):
    """The client's levels count the primes that are gone.

    Pyfhel's ``mod_level`` and OpenFHE's levels do; one role was translated and the other was not.
    """

    def level(self, ciphertext: Ciphertext) -> int:
        return self.params.max_level - super().level(ciphertext)
