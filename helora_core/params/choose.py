"""The automatic choice of parameters: the smallest ring with a plan's depth, precision, slots and security level.

Within a ring the scale is made as large as the modulus allows (up to 44 bits): wider primes cost nothing, since a
residue takes a machine word whatever the prime's length.
"""

from __future__ import annotations

import itertools
import math

from helora_core.errors import InvalidParameters
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import USUAL_NOISE, NoiseModel, keyswitch_worst_std, rescale_std
from helora_core.params.security import require_secure
from helora_core.params.smallest_ring import RingRequirement, smallest_ring

MAX_SCALE_BITS = 44
"""A larger scale gives more precision than an adapter in half precision can use, even by the worst-case bound."""

HEADROOM_BITS = 3
"""The base prime exceeds the scale by this much, which is enough because no value exceeds one
(``helora_core.compiler.exponents``)."""

_SPECIAL_SPARE_BITS = 8
"""The special prime exceeds the others by this much if primes may be so long: rounding then dominates the noise of a
key switch, or nearly so."""

_DEVIATIONS = 32
"""The largest error allowed for, in standard deviations; ``helora_core.compiler.precision`` gives its probability."""

UNUSED_SPECIAL_BITS = 20
"""Libraries reserve a special prime even for a plan that never switches keys; a short one is enough then."""


class Requirement(RingRequirement, frozen=True, kw_only=True):
    """What a plan needs of its parameters: the fields of ``RingRequirement`` and these.

    Attributes:
        depth: Rescales from input to output.
        rotates: Whether keys are switched at all.
        max_scale_bits: log2 of the largest scale to take, if the modulus allows it.
        noise_model: The model of the backend's noise.
    """

    depth: int
    rotates: bool
    max_scale_bits: int = MAX_SCALE_BITS
    noise_model: NoiseModel = USUAL_NOISE


def required_scale_bits(requirement: Requirement, ring_degree: int) -> int:
    """Smallest scale, in bits, at which the noisiest operation changes a value of at most one by 2^-precision_bits."""
    # A wider chain has more noise, but no more than a bit for each bit of the scale.
    return next(
        scale_bits
        for scale_bits in itertools.count(1)
        if scale_bits >= requirement.precision_bits + _noise_bits(requirement, ring_degree, scale_bits)
    )


def _noise_bits(requirement: Requirement, ring_degree: int, scale_bits: int) -> float:
    std = rescale_std(ring_degree)
    if requirement.rotates:
        data_bits = _data_bits(requirement, min(scale_bits, MAX_SCALE_BITS))
        special_bits = _special_bits(requirement, data_bits)
        model = requirement.noise_model
        floors, centred = model.keyswitch_floors, model.centred_digits
        switched = keyswitch_worst_std(ring_degree, data_bits, sum(special_bits), floors=floors, centred=centred)
        std = max(std, switched)
    return math.log2(_DEVIATIONS * std)


def _data_bits(requirement: Requirement, scale_bits: int) -> tuple[int, ...]:
    return (scale_bits + HEADROOM_BITS, *[scale_bits] * requirement.depth)


def _special_bits(requirement: Requirement, data_bits: tuple[int, ...], *, alone: bool = False) -> tuple[int, ...]:
    """The special prime; ``alone`` for none where no key is switched."""
    if requirement.rotates:
        return (min(data_bits[0] + _SPECIAL_SPARE_BITS, requirement.longest_prime_bits),)
    return () if alone else (UNUSED_SPECIAL_BITS,)


def _chain(requirement: Requirement, ring_degree: int, scale_bits: int, *, alone: bool = False) -> CKKSParams:
    data_bits = _data_bits(requirement, scale_bits)
    special_bits = _special_bits(requirement, data_bits, alone=alone)
    return CKKSParams(ring_degree=ring_degree, data_bits=data_bits, special_bits=special_bits, scale_bits=scale_bits)


def _largest_chain(requirement: Requirement, ring_degree: int, limit_bits: int) -> CKKSParams | None:
    """The chain with the largest scale that fits ``limit_bits`` and keeps the precision, or None.

    One for every library comes first, and one without a reserved special prime only if no other fits.
    """
    lowest = required_scale_bits(requirement, ring_degree)
    highest = min(requirement.max_scale_bits, requirement.longest_prime_bits - HEADROOM_BITS)
    for alone in (False,) if requirement.reserves_special else (False, True):
        for scale_bits in range(highest, lowest - 1, -1):
            params = _chain(requirement, ring_degree, scale_bits, alone=alone)
            if params.modulus_bits <= limit_bits:
                return params
    return None


def choose_params(requirement: Requirement) -> CKKSParams:
    """Choose the smallest ring, and in it the largest scale, that meets ``requirement``.

    Raises:
        SlotOverflow: The ring asked for has too few slots.
        InsecureParameters: In the ring asked for, no secure modulus is wide enough for depth and precision.
        InvalidParameters: No ring of the table meets the requirement; or the ring asked for is not in the table, or
            too noisy for the precision; or the precision is negative or not finite.
    """
    params = smallest_ring(requirement, lambda ring, limit_bits: _largest_chain(requirement, ring, limit_bits))
    if params is not None:
        return params
    if requirement.ring_degree is not None:
        _refuse_wanted_ring(requirement, requirement.ring_degree)
    raise InvalidParameters(
        f"No ring of security table {requirement.table} gives {requirement.slots} slots, depth {requirement.depth} and "
        f"{requirement.precision_bits:g} bits of precision at {requirement.security_bits}-bit security.",
        hint="Split the module, use a packing of less depth, or ask for less precision or security.",
    )


def _refuse_wanted_ring(requirement: Requirement, wanted: int) -> None:
    """Refuse the ring asked for: because of its precision if that is the cause, otherwise because of its security."""
    scale_bits = required_scale_bits(requirement, wanted)
    if scale_bits > MAX_SCALE_BITS:
        raise InvalidParameters(
            f"At ring degree {wanted}, {requirement.precision_bits:g} bits of precision take a scale of "
            f"2^{scale_bits}; the largest is 2^{MAX_SCALE_BITS}.",
            hint="Ask for less precision, or for a smaller ring, which has less noise.",
        )
    narrowest = _chain(requirement, wanted, scale_bits, alone=not requirement.reserves_special)
    require_secure(narrowest, security_bits=requirement.security_bits, table=requirement.table)
