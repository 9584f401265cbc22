"""The automatic choice of parameters: the smallest ring with a plan's depth, precision, slots and security level.

Within a ring the scale is made as large as the modulus allows (up to 44 bits): wider primes cost nothing, since a
residue takes a machine word whatever the prime's length.
"""

from __future__ import annotations

import math

from helora_core.errors import InvalidParameters
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.noise import keyswitch_worst_std, rescale_std
from helora_core.params.security import require_secure
from helora_core.params.smallest_ring import RingRequirement, smallest_ring

MAX_SCALE_BITS = 44
"""A larger scale gives more precision than an adapter in half precision can use, even by the worst-case bound."""

HEADROOM_BITS = 3
"""The base prime exceeds the scale by this much, which is enough because no value exceeds one
(``helora_core.compiler.exponents``)."""

_SPECIAL_SPARE_BITS = 8
"""The special prime exceeds the others by this much, so that rounding dominates the noise of a key switch."""

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
    """

    depth: int
    rotates: bool
    max_scale_bits: int = MAX_SCALE_BITS


def required_scale_bits(requirement: Requirement, ring_degree: int) -> int:
    """Smallest scale, in bits, at which the noisiest operation changes a value of at most one by 2^-precision_bits."""
    noise_bits = math.log2(_DEVIATIONS * rescale_std(ring_degree))
    if requirement.rotates:
        # The widest chain that choose_params builds has the most of it.
        widest = _chain(requirement, ring_degree, MAX_SCALE_BITS)
        worst = keyswitch_worst_std(ring_degree, widest.data_bits, sum(widest.special_bits))
        noise_bits = max(noise_bits, math.log2(_DEVIATIONS * worst))
    return math.ceil(requirement.precision_bits + noise_bits)


def _chain(requirement: Requirement, ring_degree: int, scale_bits: int) -> CKKSParams:
    base = min(scale_bits + HEADROOM_BITS, MAX_PRIME_BITS - _SPECIAL_SPARE_BITS)
    return CKKSParams(
        ring_degree=ring_degree,
        data_bits=(base, *[scale_bits] * requirement.depth),
        special_bits=(base + _SPECIAL_SPARE_BITS if requirement.rotates else UNUSED_SPECIAL_BITS,),
        scale_bits=scale_bits,
    )


def _largest_chain(requirement: Requirement, ring_degree: int, limit_bits: int) -> CKKSParams | None:
    """The chain with the largest scale that fits ``limit_bits`` and keeps the precision, or None."""
    lowest = required_scale_bits(requirement, ring_degree)
    for scale_bits in range(requirement.max_scale_bits, lowest - 1, -1):
        params = _chain(requirement, ring_degree, scale_bits)
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
    narrowest = _chain(requirement, wanted, scale_bits)
    require_secure(narrowest, security_bits=requirement.security_bits, table=requirement.table)
