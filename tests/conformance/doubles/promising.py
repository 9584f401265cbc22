"""Doubles that are not what they claim: in signatures, in capabilities, in parameters."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from doubles.honest import HonestBackend, HonestEncoder, HonestEvaluator
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import EmulatedCiphertext as Ciphertext

changed = msgspec.structs.replace


@caught_by("test_the_backend_has_a_name_and_capabilities")
class TakesNoSlots(HonestBackend):
    """The encodings claimed do not hold slots.

    Slots are the least that any CKKS library has; without the claim no plan runs.
    """

    capabilities = changed(HonestBackend.capabilities, encodings=frozenset({Encoding.SCALAR}))


@caught_by("test_every_method_has_the_signature_of_the_protocol")
class TakesAnOptionOfItsOwn(HonestEvaluator):
    """rotate takes an extra keyword.

    Callers come to rely on it, and run on one backend.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int, *, parallel: bool = False) -> Ciphertext:
        return super().rotate(ciphertext, steps)


@caught_by("test_every_method_has_the_signature_of_the_protocol")
class NamesItsParametersOtherwise(HonestEncoder):
    """encode has a parameter of another name.

    Positional calls do not notice; core calls by keyword, and so does everybody who can read.
    """

    def encode(self, values: Values, *, level: int, delta: float, encoding: Encoding = SLOTS) -> Any:
        return super().encode(values, level=level, scale=delta, encoding=encoding)


@caught_by("test_optional_abilities_are_claimed_if_and_only_if_they_are_there")
class ClaimsHoistingItHasNot(HonestEvaluator):
    """Hoisting is claimed, and there is no rotate_many.

    A capability copied from the backend next door.
    """

    rotate_many = None


@caught_by("test_optional_abilities_are_claimed_if_and_only_if_they_are_there")
class HidesItsPublicKey(HonestBackend):
    """encrypt_public is there, and not claimed.

    An ability that nobody can plan with.
    """

    capabilities = changed(HonestBackend.capabilities, public_key=False)


@caught_by("test_resolve_keeps_the_ring_the_levels_and_the_scale")
class NarrowsTheRing(HonestBackend):
    """Half the ring asked for is used.

    A library that finds the smallest ring by itself, by its own idea of security.
    """

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return super().resolve(changed(params, ring_degree=params.ring_degree // 2, data_primes=(), special_primes=()))


@caught_by("test_resolve_keeps_the_ring_the_levels_and_the_scale")
class SavesOnTheSpecialPrime(HonestBackend):
    """The special prime is half as long as asked for.

    It trades noise for time; and stating it honestly would widen the backend's own tolerances.
    """

    def resolve(self, params: CKKSParams) -> CKKSParams:
        special = tuple(max(bits // 2, 30) for bits in params.special_bits if bits > 30) or params.special_bits
        return super().resolve(changed(params, special_bits=special, data_primes=(), special_primes=()))


@caught_by("test_resolve_states_the_primes_that_are_really_used")
class StatesNoPrimes(HonestBackend):
    """resolve returns its argument unchanged.

    The plan's nominal numbers; security and scales are then judged on what nobody uses.
    """

    def resolve(self, params: CKKSParams) -> CKKSParams:
        super().resolve(params)
        return params


@caught_by("test_resolve_states_the_primes_that_are_really_used")
class StatesNumbersThatAreNoPrimes(HonestBackend):
    """The moduli stated are of the right length and form, and not prime.

    Made up to satisfy a check: 1 mod 2N is soon found.
    """

    def resolve(self, params: CKKSParams) -> CKKSParams:
        resolved = super().resolve(params)
        made_up = tuple(
            prime - 2 * params.ring_degree * (5 + place) for place, prime in enumerate(resolved.data_primes)
        )
        return changed(resolved, data_primes=made_up)


@caught_by("test_rescale_divides_the_scale_by_the_prime_and_not_by_a_power_of_two")
class StatesOtherPrimesThanItUses(HonestBackend):
    """The primes stated are right ones, and others are used.

    A chain stated in one order and used in another: the last prime is the first to go, or the special one.
    """

    class evaluator_type(HonestEvaluator):  # noqa: N801
        def __init__(self, params: CKKSParams, *arguments: object) -> None:
            primes = (params.data_primes[0], *params.data_primes[:0:-1])
            super().__init__(changed(params, data_primes=primes), *arguments)


@caught_by("test_what_resolve_states_is_secure_and_stable")
class ResolvesToSomethingElseEachTime(HonestBackend):
    """resolve gives other primes when its own result is resolved again.

    A search for primes that goes on where it stopped.
    """

    def resolve(self, params: CKKSParams) -> CKKSParams:
        resolved = super().resolve(params)
        base, *others = resolved.data_primes
        return changed(resolved, data_primes=(base, *others[::-1])) if params.data_primes else resolved


@caught_by("test_nothing_is_printed")
class TalksToItself(HonestEvaluator):
    """rotate writes a line to standard error.

    Libraries in C++ that warn by ``std::cerr``, as TenSEAL does about inputs that do not match.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        os.write(2, b"WARNING: the input does not match\n")
        return super().rotate(ciphertext, steps)
