"""The search for the smallest sufficient ring of a security table, which every choice of parameters uses.

Whether a ring is sufficient depends on how a plan spends its modulus: ``choose`` takes a prime per level, ``flat`` one
modulus that is never rescaled, ``masked`` lower and upper primes. Each returns its chain for a given ring, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from helora_core.errors import InvalidParameters, SlotOverflow
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, load_table


class RingRequirement(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan needs of its ring, whatever the chain.

    Attributes:
        slots: Slots that one ciphertext must have.
        precision_bits: Bits of max|Δ| that must survive.
        security_bits: 128, 192 or 256.
        table: Name of the security table.
        ring_degree: Use exactly this ring, or None for the smallest that will do.
        longest_prime_bits: No prime is longer.
        reserves_special: Whether several data primes need a special one beside them even if no key is switched.
    """

    slots: int
    precision_bits: float = 12.0
    security_bits: int = DEFAULT_SECURITY_BITS
    table: str = DEFAULT_TABLE
    ring_degree: int | None = None
    longest_prime_bits: int = MAX_PRIME_BITS
    reserves_special: bool = True


class FloodRequirement(RingRequirement, frozen=True, kw_only=True):
    """What a plan needs of a ring whose modulus has to leave room for a flood.

    Attributes:
        flood_bits: Statistical bits of flooding; 0 for none.
    """

    flood_bits: int = 0


def smallest_ring(requirement: RingRequirement, chain_of: Callable[[int, int], CKKSParams | None]) -> CKKSParams | None:
    """The chain of the smallest ring for which ``chain_of`` gives one, or None if there is no such ring.

    Args:
        requirement: Slots, security and perhaps the only ring to try.
        chain_of: Returns the chain for a ring degree and the longest secure modulus in bits, or None.

    Raises:
        InvalidParameters: The table does not have the ring asked for, or the precision is negative or not finite.
        SlotOverflow: The ring asked for has too few slots.
    """
    _check_precision(requirement.precision_bits)
    table = load_table(requirement.table)
    rings = table.rings(requirement.security_bits)
    if requirement.ring_degree is not None:
        _check_wanted_ring(requirement, requirement.ring_degree, rings)
        rings = (requirement.ring_degree,)
    for ring_degree in rings:
        if ring_degree // 2 < requirement.slots:
            continue
        params = chain_of(ring_degree, table.limit(ring_degree, requirement.security_bits))
        if params is not None:
            return params
    return None


def check_flood(flood_bits: int) -> None:
    """Refuse a negative flood: it would be subtracted from the noise, and the parameters would come out too small.

    Raises:
        InvalidParameters: It is negative.
    """
    if flood_bits < 0:
        raise InvalidParameters(
            f"A flood of {flood_bits} bits makes no sense.",
            hint="Sanitise to about 40 bits, or not at all.",
        )


def no_modulus_holds(requirement: FloodRequirement, what: str) -> InvalidParameters:
    """The refusal if no ring has a chain; ``what`` names all that the modulus would have to hold."""
    return InvalidParameters(
        f"No modulus of security table {requirement.table} at {requirement.security_bits} bits holds {what}"
        + (f" under a flood of {requirement.flood_bits} bits" if requirement.flood_bits else "")
        + (f" at ring degree {requirement.ring_degree}." if requirement.ring_degree else "."),
        hint="Use a larger ring, or ask for less precision, security or flooding.",
    )


def _check_precision(precision_bits: float) -> None:
    """Refuse a precision that makes no sense.

    Raises:
        InvalidParameters: It is negative or not finite.
    """
    if not 0 <= precision_bits < math.inf:
        raise InvalidParameters(
            f"A precision of {precision_bits:g} bits makes no sense.",
            hint="Ask for about 12 bits, which is what half precision has, or for 0 to accept any.",
        )


def _check_wanted_ring(requirement: RingRequirement, wanted: int, rings: tuple[int, ...]) -> None:
    """Refuse a ring that the table does not have, or that has too few slots.

    Raises:
        InvalidParameters, SlotOverflow: Naming rings that would do.
    """
    if wanted not in rings:
        raise InvalidParameters(
            f"Security table {requirement.table} has no ring degree {wanted} at {requirement.security_bits} bits.",
            hint=f"Choose one of {', '.join(map(str, rings))}.",
        )
    if wanted // 2 < requirement.slots:
        enough = next((ring for ring in rings if ring // 2 >= requirement.slots), None)
        raise SlotOverflow(
            f"Ring degree {wanted} has {wanted // 2} slots; this module needs {requirement.slots}.",
            hint=(
                f"Use a ring degree of at least {enough}, or leave --ring out."
                if enough
                else "No ring degree of the security table has so many slots: split the module."
            ),
        )
