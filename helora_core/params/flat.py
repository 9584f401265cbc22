"""The choice of a modulus that is never rescaled: it holds the scales of input and plaintexts together.

Flooding multiplies a result's noise by 2^bits, so a sanitised plan wants a large input scale and no rescale: that would
bring signal and noise down together while the flood's own floor stays. The input gets all the modulus that is left, or
shares it with plaintexts that are coefficients. One prime without a special one beside it is taken where it suffices:
at 128 bits of security, 53 bits in a ring of 2048.
"""

from __future__ import annotations

import math

from helora_core.params.choose import UNUSED_SPECIAL_BITS
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.noise import encryption_std, keyswitch_worst_std
from helora_core.params.smallest_ring import FloodRequirement, check_flood, no_modulus_holds, smallest_ring

HEADROOM_BITS = 8
"""The modulus exceeds the result's scale by this much, so that decrypted values up to 2^7 do not wrap."""

LARGEST_INPUT_BITS = 75
"""A larger input scale buys nothing: the encoding's own double precision ends before."""

_ONE_PRIME_BITS = 55
"""SEAL's special prime must exceed the data primes for the noise of a key switch to stay small."""


_LARGEST_OF_65537 = 32768


class FlatRequirement(FloodRequirement, frozen=True, kw_only=True):
    """What a plan without rescales needs of its parameters: all that ``FloodRequirement`` has, and these.

    Attributes:
        weight_bits: log2 of the scales of all plaintexts on a path from input to output, together.
        rotates: Whether keys are switched at all.
        coefficients: Whether results are read as coefficients, whose noise has no factor √N.
    """

    weight_bits: int
    rotates: bool
    coefficients: bool = False


def choose_flat_params(requirement: FlatRequirement) -> CKKSParams:
    """Choose the smallest ring whose modulus holds the scales; ``scale_bits`` of the result is the input's scale.

    Raises:
        SlotOverflow, InvalidParameters: As ``choose_params`` does; or the flood is negative.
    """
    check_flood(requirement.flood_bits)
    params = smallest_ring(requirement, lambda ring, limit_bits: _flat_chain(requirement, ring, limit_bits))
    if params is None:
        raise no_modulus_holds(
            requirement,
            f"plaintext scales of {requirement.weight_bits} bits with {requirement.precision_bits:g} bits of precision",
        )
    return params


def required_input_bits(requirement: FlatRequirement, ring_degree: int, special_bits: int) -> int:
    """Smallest input scale, in bits, at which noise and flood leave the precision, the message being of order 1."""
    std = encryption_std(ring_degree)
    if requirement.rotates:
        std = max(std, keyswitch_worst_std(ring_degree, (_ONE_PRIME_BITS,) * 3, special_bits))
    if requirement.coefficients:
        std /= math.sqrt(ring_degree / 2)
    return math.ceil(requirement.precision_bits + requirement.flood_bits + math.log2(6 * std) + 1)


def reserved_special_bits(ring_degree: int) -> int:
    """Length of the special prime that libraries reserve beside several others, where no key is switched.

    The shortest that is 1 mod 2N leaves the most to the data: 40961 for N=4096, and 65537 for N up to 32768.
    """
    if ring_degree > _LARGEST_OF_65537:
        return UNUSED_SPECIAL_BITS
    return 16 if ring_degree == 4096 else 17


def plaintext_bits(params: CKKSParams) -> int:
    """What these parameters leave for the scales of all plaintexts on a path together."""
    return params.data_modulus_bits - HEADROOM_BITS - params.scale_bits


def _flat_chain(requirement: FlatRequirement, ring_degree: int, limit_bits: int) -> CKKSParams | None:
    if requirement.rotates:
        return _chain_of(requirement, ring_degree, limit_bits, special=(MAX_PRIME_BITS,))
    # Without key switches, a single prime needs no special one beside it; libraries of RNS chains reserve one.
    alone = _chain_of(requirement, ring_degree, min(limit_bits, MAX_PRIME_BITS), special=())
    return alone or _chain_of(requirement, ring_degree, limit_bits, special=(reserved_special_bits(ring_degree),))


def _chain_of(
    requirement: FlatRequirement, ring_degree: int, limit_bits: int, *, special: tuple[int, ...]
) -> CKKSParams | None:
    least = required_input_bits(requirement, ring_degree, sum(special))
    beyond_input = requirement.weight_bits + HEADROOM_BITS
    room = limit_bits - sum(special)
    if least + beyond_input > room:
        return None
    # Rounding the number of primes up costs time, filling them up costs nothing.
    largest_prime = _ONE_PRIME_BITS if requirement.rotates else MAX_PRIME_BITS
    primes = -(-(least + beyond_input) // largest_prime)
    total = min(room, primes * largest_prime, max(least, LARGEST_INPUT_BITS) + beyond_input)
    spare = total - beyond_input - least
    return CKKSParams(
        ring_degree=ring_degree,
        data_bits=tuple(total // primes + (i < total % primes) for i in range(primes)),
        special_bits=special,
        # As coefficients, weights round about as coarsely as inputs are noisy: they share what is to spare.
        scale_bits=least + (spare - spare // 2 if requirement.coefficients else spare),
    )
