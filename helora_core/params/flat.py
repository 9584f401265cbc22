"""The choice of a modulus that is never rescaled: it holds the scales of input and plaintexts together.

Flooding multiplies a result's noise by 2^bits, so a sanitised plan needs a large input scale and no rescale, which
would shrink signal and noise together but not the least size of the flood. The caller states the smallest scales that
will do (``FlatScales``). The smallest ring, with the fewest primes, whose modulus holds them is chosen, and spare bits
are distributed over the scales. One prime without a special prime is used where it is enough: at 128 bits of security,
53 bits in a ring of 2048.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from helora_core.params.choose import UNUSED_SPECIAL_BITS
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.smallest_ring import FloodRequirement, check_flood, no_modulus_holds, smallest_ring

HEADROOM_BITS = 3
"""Values are at most one: one bit each for a factor of two, for the sign, and for primes short of their bit length."""

LARGEST_INPUT_BITS = 84
"""A larger input scale gains nothing: the encoding, in double precision, is not more exact."""

LARGEST_WEIGHT_BITS = 50
"""A larger scale of the plaintexts gains nothing, for the same reason."""

_SPECIAL_SPARE_BITS = 8
"""The special prime exceeds the data primes by this much, so that rounding dominates the noise of a key switch."""

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
    mask_bits = requirement.mask_bits(ring_degree)
    for primes, special in _chains(requirement, ring_degree):
        longest = min(MAX_PRIME_BITS, special[0] - _SPECIAL_SPARE_BITS) if requirement.rotates else MAX_PRIME_BITS
        room = min(limit_bits - sum(special), primes * longest)
        least = requirement.least(ring_degree, (-(-room // primes),) * primes, special)
        needed = _needed(least, mask_bits)
        if needed <= room:
            total = min(room, _useful(least, needed))
            return CKKSParams(
                ring_degree=ring_degree,
                data_bits=tuple(total // primes + (i < total % primes) for i in range(primes)),
                special_bits=special,
                scale_bits=1,
            )
    return None


def _needed(least: FlatScales, mask_bits: int) -> int:
    """Bits of modulus that the smallest scales take, and a mask of so many more than input and ``down``."""
    masked = least.input_bits + least.down_bits + mask_bits if mask_bits else 0
    return max(least.total + HEADROOM_BITS, masked)


def _chains(requirement: FlatRequirement, ring_degree: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Chains to try, cheapest first: the number of data primes and the bits of the special primes."""
    if requirement.rotates:
        # With more primes, each is shorter, and so is the special prime: the data gets the difference.
        for primes in range(1, _MOST_PRIMES + 1):
            for special in range(MAX_PRIME_BITS, 39, -1):
                yield primes, (special,)
        return
    # Without key switches, a single prime needs no special one beside it; libraries of RNS chains reserve one.
    yield 1, ()
    for primes in range(2, _MOST_PRIMES + 1):
        yield primes, (reserved_special_bits(ring_degree),)


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
