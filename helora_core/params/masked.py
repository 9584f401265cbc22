"""The choice of data primes where the upper one is divided out between two products: of programs that mask modulo the
lower ones in between, and of those that only divide.

The first product is rescaled by the upper prime q, which leaves z modulo the product Q' of the lower primes. Where it
is masked, with integers uniform modulo Q', it comes back multiplied by q, modulo Q'·q, where multiples of Q' vanish.
The second product, with integers of ``up``, has to stay below Q'/2, there in units of q.

If results are flooded, the flood has to exceed the share of the first round's noise in Δ: Q' takes two primes then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from helora_core.errors import InvalidParameters
from helora_core.params.ckks import CKKSParams
from helora_core.params.flat import HEADROOM_BITS, reserved_special_bits, shared
from helora_core.params.smallest_ring import FloodRequirement, check_flood, no_modulus_holds, smallest_ring

_BEYOND_DOWN_BITS = 4
"""The first product is rescaled by this many bits more than the scale of ``down``, so that its noise is smaller than
that of rounding."""

_SHORTEST_BITS = 20
"""There are few shorter primes that are 1 mod 2N, if any."""


class MaskedScales(msgspec.Struct, frozen=True, kw_only=True):
    """log2 of the scales of the input, of ``down``, of ``up``, and of z after its rescale."""

    input_bits: int
    down_bits: int
    up_bits: int
    z_bits: int


class MaskedRequirement(FloodRequirement, frozen=True, kw_only=True):
    """What a plan that masks needs of its parameters: the fields of ``FloodRequirement`` and this.

    Attributes:
        least: Given a ring degree, the smallest sufficient scales of z, ``down`` and ``up``; the input's follows.
        beyond_down_bits: By how many bits the upper prime is longer than the scale of ``down``.
        most_spare_bits: By how many bits scales may exceed the smallest if that takes no further prime.
    """

    least: Callable[[int], MaskedScales]
    beyond_down_bits: int = _BEYOND_DOWN_BITS
    most_spare_bits: int = 8


def choose_masked(requirement: MaskedRequirement) -> tuple[CKKSParams, MaskedScales]:
    """Choose the smallest ring whose modulus holds such primes; ``scale_bits`` of the result is the input's scale.

    Raises:
        SlotOverflow, InvalidParameters: As ``choose_params`` does; or the flood is negative.
    """
    check_flood(requirement.flood_bits)
    found: dict[int, MaskedScales] = {}

    def chain(ring_degree: int, limit_bits: int) -> CKKSParams | None:
        for special in _specials(requirement, ring_degree):
            least = requirement.least(ring_degree)
            rest = limit_bits - sum(special)
            chosen = _data_bits(requirement, least, rest)
            if chosen is None:
                continue
            for _ in range(requirement.most_spare_bits):
                finer = msgspec.structs.replace(
                    least, z_bits=least.z_bits + 1, up_bits=least.up_bits + 1, down_bits=least.down_bits + 1
                )
                data_bits = _data_bits(requirement, finer, rest)
                # Spare bits are used as long as they cost no further prime.
                if data_bits is None or len(data_bits) > len(chosen):
                    break
                chosen, least = data_bits, finer
            params = CKKSParams(ring_degree=ring_degree, data_bits=chosen, special_bits=special, scale_bits=1)
            found[ring_degree] = masked_scales(params, least)
            return msgspec.structs.replace(params, scale_bits=found[ring_degree].input_bits)
        return None

    params = smallest_ring(requirement, chain)
    if params is None:
        raise no_modulus_holds(requirement, f"a mask over results of {requirement.precision_bits:g} bits of precision")
    return params, found[params.ring_degree]


def masked_scales(params: CKKSParams, least: MaskedScales) -> MaskedScales:
    """The scales for primes that are already chosen.

    Raises:
        InvalidParameters: There is no prime above the lower ones, or they have too few bits for the scales.
    """
    lower, upper = sum(params.data_bits[:-1]), params.data_bits[-1]
    if len(params.data_bits) < 2 or lower < least.z_bits + least.up_bits + HEADROOM_BITS:
        raise InvalidParameters(
            f"Between the two products all data primes but the last are left. They need at least "
            f"{least.z_bits + least.up_bits + HEADROOM_BITS} bits together; the data primes have "
            f"{list(params.data_bits)} bits.",
            hint="Leave the choice of parameters to the plan.",
        )
    z_bits = lower - least.up_bits - HEADROOM_BITS
    return msgspec.structs.replace(least, input_bits=z_bits + upper - least.down_bits, z_bits=z_bits)


def scales_within(params: CKKSParams) -> MaskedScales:
    """Scales for primes that the caller chose: z and ``up`` share the lower ones.

    Raises:
        InvalidParameters: There is no prime above the lower ones, or too few bits.
    """
    room = sum(params.data_bits[:-1]) - HEADROOM_BITS
    least = MaskedScales(
        input_bits=0,
        z_bits=max(1, (room + 1) // 2),
        up_bits=max(1, room // 2),
        down_bits=params.data_bits[-1] - _BEYOND_DOWN_BITS,
    )
    return masked_scales(params, least)


def _specials(requirement: MaskedRequirement, ring_degree: int) -> Iterator[tuple[int, ...]]:
    """Special primes to try: one as libraries reserve it, and none, with which a plan is not for every library."""
    yield (reserved_special_bits(ring_degree),)
    if not requirement.reserves_special:
        yield ()


def _data_bits(requirement: MaskedRequirement, scales: MaskedScales, limit_bits: int) -> tuple[int, ...] | None:
    """Lengths of the lower primes and of the upper one, or None if they exceed the limit."""
    longest = requirement.longest_prime_bits
    lower = max(_SHORTEST_BITS, scales.z_bits + scales.up_bits + HEADROOM_BITS)
    primes = -(-lower // longest)
    upper = max(scales.down_bits + requirement.beyond_down_bits, _SHORTEST_BITS)
    if lower + upper > limit_bits or upper > longest:
        return None
    return (*shared(lower, primes), upper)
