"""The choice of a modulus that is never rescaled: it holds the scales of input and plaintexts together.

Flooding multiplies a result's noise by 2^bits, so a sanitised plan needs a large input scale and no rescale, which
would shrink signal and noise together but not the least size of the flood. The caller states the smallest scales that
will do (``FlatScales``). The smallest ring, with the fewest primes, whose modulus holds them is chosen, and spare bits
are distributed over the scales. One prime without a special prime is used where it is enough: at 128 bits of security,
53 bits in a ring of 2048.

Where keys are switched, the special prime takes bits from the data, and each bit that it is longer than the data primes
halves the noise of key switches, down to that of their rounding. ``least`` knows that noise, so the special prime is
the one that leaves the most bits to spare: no distance between the lengths suits all rings, digits and floods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from helora_core.params.choose import UNUSED_SPECIAL_BITS
from helora_core.params.ckks import CKKSParams
from helora_core.params.smallest_ring import FloodRequirement, check_flood, no_modulus_holds, smallest_ring

HEADROOM_BITS = 3
"""Values are at most one: one bit each for a factor of two, for the sign, and for primes short of their bit length."""

LARGEST_INPUT_BITS = 84
"""A larger input scale gains nothing: the encoding, in double precision, is not more exact."""

LARGEST_WEIGHT_BITS = 50
"""A larger scale of the plaintexts gains nothing, for the same reason."""

_SHORTEST_SPECIAL_BITS = 20
"""No shorter special prime is tried where keys are switched."""

_LONGEST_SWITCHED_BITS = 56
"""No data prime is longer where keys are switched: OpenFHE would take a second special prime, or has no such chain."""

_MOST_PRIMES = 6
_LARGEST_OF_65537 = 32768


class FlatScales(msgspec.Struct, frozen=True, kw_only=True):
    """log2 of the scales of input and weights; ``up_bits`` is 0 for plans with one product."""

    input_bits: int
    down_bits: int
    up_bits: int

    @property
    def total(self) -> int:
        """log2 of a result's scale: the sum of all."""
        return self.input_bits + self.down_bits + self.up_bits


class FlatRequirement(FloodRequirement, frozen=True, kw_only=True):
    """What a plan without rescales needs of its parameters: the fields of ``FloodRequirement`` and these.

    Attributes:
        rotates: Whether keys are switched at all.
        least: The smallest sufficient scales, given a ring degree and the bits of the data and the special primes.
        mask_bits: Given a ring degree, the bits by which the modulus must exceed the scales of input and ``down`` so
            that a mask over other slots fits; 0 for no mask.
    """

    rotates: bool
    least: Callable[[int, tuple[int, ...], tuple[int, ...]], FlatScales]
    mask_bits: Callable[[int], int]


def choose_flat(requirement: FlatRequirement) -> tuple[CKKSParams, FlatScales]:
    """Choose the smallest ring whose modulus holds the scales; ``scale_bits`` of the result is the input's scale.

    Raises:
        SlotOverflow, InvalidParameters: As ``choose_params`` does; or the flood is negative.
    """
    check_flood(requirement.flood_bits)
    params = smallest_ring(requirement, lambda ring, limit_bits: _flat_chain(requirement, ring, limit_bits))
    if params is None:
        raise no_modulus_holds(requirement, f"{requirement.precision_bits:g} bits of precision without a rescale")
    scales = _shared_out(requirement, params)
    return msgspec.structs.replace(params, scale_bits=scales.input_bits), scales


def reserved_special_bits(ring_degree: int) -> int:
    """Bit length of the special prime that libraries reserve beside several data primes even if no key is switched.

    The shortest prime that is 1 mod 2N leaves the most to the data: 40961 for N=4096, and 65537 for N up to 32768.
    """
    if ring_degree > _LARGEST_OF_65537:
        return UNUSED_SPECIAL_BITS
    return 16 if ring_degree == 4096 else 17


def _flat_chain(requirement: FlatRequirement, ring_degree: int, limit_bits: int) -> CKKSParams | None:
    """The chain with the fewest data primes, whose number is what operations cost, and then the most bits to spare."""
    for primes in range(1, _MOST_PRIMES + 1):
        for specials in _specials(requirement, ring_degree, primes):
            best: CKKSParams | None = None
            most = -1
            for special in specials:
                spare, params = _filled(requirement, ring_degree, limit_bits, primes, special)
                if spare > most:
                    most, best = spare, params
            if best is not None:
                return best
    return None


def _filled(
    requirement: FlatRequirement, ring_degree: int, limit_bits: int, primes: int, special: tuple[int, ...]
) -> tuple[int, CKKSParams | None]:
    """The chain of so many data primes, if they are enough, and the bits of use that it has beyond those needed."""
    # Libraries take a special prime shorter than the data primes for one that is only reserved.
    longest = requirement.longest_prime_bits
    if requirement.rotates:
        longest = min(longest, _LONGEST_SWITCHED_BITS, *special)
    room = min(limit_bits - sum(special), primes * longest)
    if room <= 0:
        return -1, None
    total, spare, mask_bits = room + 1, -1, requirement.mask_bits(ring_degree)
    while room < total:
        total = room
        least = requirement.least(ring_degree, shared(total, primes), special)
        needed = _needed(least, mask_bits)
        # Shorter primes have less noise, so that again fewer bits may be of use.
        room = min(total, _useful(least, needed))
        if spare < 0:
            spare = room - needed
        if spare < 0:
            return -1, None
    return spare, CKKSParams(
        ring_degree=ring_degree, data_bits=shared(total, primes), special_bits=special, scale_bits=1
    )


def shared(bits: int, primes: int) -> tuple[int, ...]:
    """Lengths of so many primes with these bits together, which differ by one at most."""
    return tuple(bits // primes + (i < bits % primes) for i in range(primes))


def _needed(least: FlatScales, mask_bits: int) -> int:
    """Bits of modulus that the smallest scales take, and a mask of so many more than input and ``down``."""
    masked = least.input_bits + least.down_bits + mask_bits if mask_bits else 0
    return max(least.total + HEADROOM_BITS, masked)


def _specials(requirement: FlatRequirement, ring_degree: int, primes: int) -> Iterator[list[tuple[int, ...]]]:
    """Special primes to try with so many data primes: groups of which the first that has some that do is taken."""
    if requirement.rotates:
        # A longer one makes key switches less noisy, a shorter one leaves more bits to the data.
        yield [(bits,) for bits in range(requirement.longest_prime_bits, _SHORTEST_SPECIAL_BITS - 1, -1)]
    elif primes == 1:
        yield [()]  # no library takes a single prime for a special one
    else:
        yield [(reserved_special_bits(ring_degree),)]
        if not requirement.reserves_special:  # second, since such a plan is not for every library
            yield [()]


def _useful(least: FlatScales, needed: int) -> int:
    """Bits of modulus beyond which larger scales gain nothing."""
    weights = LARGEST_WEIGHT_BITS * (2 if least.up_bits else 1)
    most = max(least.input_bits, LARGEST_INPUT_BITS) + weights + HEADROOM_BITS
    return max(most, needed)


def _shared_out(requirement: FlatRequirement, params: CKKSParams) -> FlatScales:
    """The smallest scales, raised by the bits to spare. ``up`` gets the bits that a mask denies to the others."""
    least = requirement.least(params.ring_degree, params.data_bits, params.special_bits)
    mask_bits = requirement.mask_bits(params.ring_degree)
    total = params.data_modulus_bits
    room = total - HEADROOM_BITS
    scales = least
    while True:
        before = scales
        # Raise the one closest to its minimum, so that input and weights stay in proportion.
        for name in sorted(("input_bits", "down_bits"), key=lambda each: getattr(scales, each) - getattr(least, each)):
            limit = LARGEST_INPUT_BITS if name == "input_bits" else LARGEST_WEIGHT_BITS
            larger = msgspec.structs.replace(scales, **{name: getattr(scales, name) + 1})
            masked = larger.input_bits + larger.down_bits + mask_bits if mask_bits else 0
            if getattr(larger, name) <= limit and larger.total <= room and masked <= total:
                scales = larger
                break
        if least.up_bits and scales.total < room and scales.up_bits < LARGEST_WEIGHT_BITS:
            scales = msgspec.structs.replace(scales, up_bits=scales.up_bits + 1)
        if scales == before:
            return scales
