"""The choice of two data primes for programs that mask: q₀ to mask modulo, and q₁ to compute above it.

The first product is rescaled by q₁, so that z is left as integers of about ``z_bits`` modulo q₀ alone. Masked with
integers uniform modulo q₀ they come back multiplied by q₁, modulo Q = q₀·q₁: what wraps around modulo q₀ vanishes. The
second product, with integers of ``up`` on a grid of 2^-up_bits, has to stay below q₀/2 in units of q₁, and its noise
below q₁, with room for a flood.
"""

from __future__ import annotations

import math

import msgspec

from helora_core.errors import InvalidParameters
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.flat import reserved_special_bits
from helora_core.params.noise import ERROR_STD, rescale_std
from helora_core.params.smallest_ring import FloodRequirement, check_flood, no_modulus_holds, smallest_ring

LARGEST_BASE_BITS = 46
"""Masked integers must come out of a decoder's doubles exactly, and a transform loses up to six bits of 53."""

HEADROOM_BITS = 6
"""By default Δ up to 2^5 does not wrap around modulo q₀."""

LEAST_HEADROOM_BITS = 4
"""Where precision is short, Δ up to 2^3 does not: adapters' results are of the order of 0.1, or of 1 for outliers."""

_LEAST_UPPER_BITS = 30

_WEIGHT_BITS = 5
"""Rounding costs 0.29 units; a weight of ``up`` of 0.02 and a few deviations make that 2^5."""

_FLOODED_DEVIATIONS = 9

_FOR_THE_RANK = 2
"""Δ is a sum over the rank, larger than its terms by about 2^2; the noise was taken for a sum over the ring already."""

_MOST_SPARE_BITS = 12


class MaskedRequirement(FloodRequirement, frozen=True, kw_only=True):
    """What a plan that masks needs of its parameters: all that ``FloodRequirement`` has, and this.

    Attributes:
        headroom_bits: Bits of the base prime beyond the scales of z and ``up``.
    """

    headroom_bits: int = HEADROOM_BITS


class MaskedScales(msgspec.Struct, frozen=True, kw_only=True):
    """log2 of the scales of input and ``down``, and of the grid that ``up`` is rounded to."""

    input_bits: int
    down_bits: int
    up_bits: int


def choose_masked_params(requirement: MaskedRequirement) -> CKKSParams:
    """Choose the smallest ring whose modulus holds two such primes; ``scale_bits`` of the result is the input's scale.

    Raises:
        SlotOverflow, InvalidParameters: As ``choose_params`` does; or the flood is negative.
    """
    check_flood(requirement.flood_bits)
    params = smallest_ring(requirement, lambda ring, limit_bits: _finest_chain(requirement, ring, limit_bits))
    if params is None:
        raise no_modulus_holds(
            requirement,
            f"a mask of at most {LARGEST_BASE_BITS} bits and results of {requirement.precision_bits:g} bits of "
            "precision",
        )
    return params


def masked_scales(params: CKKSParams, headroom_bits: int = HEADROOM_BITS) -> MaskedScales:
    """The scales that two data primes allow.

    Raises:
        InvalidParameters: They are not two, or the base prime is too long or too short to mask modulo it.
    """
    base = params.data_bits[0]
    room = base - headroom_bits
    if len(params.data_bits) != 2 or base > LARGEST_BASE_BITS or room < 2:
        raise InvalidParameters(
            f"Masks are made modulo the first of two data primes, of at most {LARGEST_BASE_BITS} bits, not with data "
            f"primes of {list(params.data_bits)} bits.",
            hint="Leave the choice of parameters to the plan.",
        )
    z_bits = (room + 1) // 2
    product_bits = z_bits + params.data_bits[1]
    return MaskedScales(input_bits=(product_bits + 1) // 2, down_bits=product_bits // 2, up_bits=room // 2)


def _finest_chain(requirement: MaskedRequirement, ring_degree: int, limit_bits: int) -> CKKSParams | None:
    """The primes that keep most bits beyond the precision asked for, or None."""
    for spare_bits in range(_MOST_SPARE_BITS, -1, -1):
        params = _chain(requirement, ring_degree, limit_bits, requirement.precision_bits + spare_bits)
        if params is not None:
            return params
    return None


def _chain(
    requirement: MaskedRequirement, ring_degree: int, limit_bits: int, precision_bits: float
) -> CKKSParams | None:
    """The primes that keep so much precision, or None; the longest second one that there is room for."""
    places = math.sqrt(ring_degree / 2)
    z_bits = math.ceil(precision_bits + math.log2(6 * rescale_std(ring_degree) / places))
    up_bits = math.ceil(precision_bits + _WEIGHT_BITS)
    base = z_bits + up_bits + requirement.headroom_bits
    # The noise of the client's answer, times weights that fill the ring and are twice as fine as their grid: as
    # many deviations as a flood is made for, and as many of the flood's.
    noise_bits = math.log2(_FLOODED_DEVIATIONS * 4 * ERROR_STD * math.sqrt(ring_degree) * 2) - _FOR_THE_RANK
    upper = max(_LEAST_UPPER_BITS, math.ceil(precision_bits + requirement.flood_bits + noise_bits) - z_bits)
    special = reserved_special_bits(ring_degree)
    room = limit_bits - special - base
    if base > LARGEST_BASE_BITS or upper > min(room, MAX_PRIME_BITS):
        return None
    params = CKKSParams(
        ring_degree=ring_degree,
        data_bits=(base, min(room, MAX_PRIME_BITS)),
        special_bits=(special,),
        scale_bits=1,
    )
    return msgspec.structs.replace(params, scale_bits=masked_scales(params, requirement.headroom_bits).input_bits)
