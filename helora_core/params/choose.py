"""The automatic choice: the smallest ring that holds a plan's depth, precision and slots at the security asked for.

Within a ring the scale is made as large as the modulus allows (up to 40 bits): wider primes cost nothing, since a
residue takes a machine word whatever the prime's length.
"""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from helora_core.errors import InvalidParameters, SlotOverflow
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.noise import keyswitch_worst_std, rescale_std
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, load_table, require_secure

MAX_SCALE_BITS = 40
"""A larger scale buys precision that no adapter in half precision can use."""

INTEGER_BITS = 20
"""The base prime exceeds the scale by this much, so that decrypted values up to 2^19 do not wrap."""

MESSAGE_HEADROOM_BITS = 6
"""A Δ is smaller than its x by about this much (``up`` is of order 10^-2), and its last rescale's noise is not."""

UNUSED_SPECIAL_BITS = 20
"""Libraries reserve a special prime even for a plan that never switches keys; then a short one will do."""


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan needs of its parameters.

    Attributes:
        depth: Rescales from input to output.
        slots: Slots one ciphertext must have.
        rotates: Whether keys are switched at all.
        precision_bits: Bits of max|Δ| that must survive.
        security_bits: 128, 192 or 256.
        table: Name of the security table.
        ring_degree: Use exactly this ring, or None for the smallest that will do.
        max_scale_bits: The largest scale to take, where the modulus allows it.
    """

    depth: int
    slots: int
    rotates: bool
    precision_bits: float = 12.0
    security_bits: int = DEFAULT_SECURITY_BITS
    table: str = DEFAULT_TABLE
    ring_degree: int | None = None
    max_scale_bits: int = MAX_SCALE_BITS


def required_scale_bits(requirement: Requirement, ring_degree: int) -> int:
    """Smallest scale, in bits, at which the noisiest operation leaves ``precision_bits`` of the result in this ring.

    The largest error over a ciphertext's slots is taken as six standard deviations.
    """
    noise_bits = math.log2(6 * rescale_std(ring_degree)) + MESSAGE_HEADROOM_BITS
    if requirement.rotates:
        # The noise of key switches meets x and z, which are of order 1, rather than the small Δ. The widest chain
        # that choose_params builds has the most of it.
        widest = _chain(requirement, ring_degree, MAX_SCALE_BITS)
        worst = keyswitch_worst_std(ring_degree, widest.data_bits, sum(widest.special_bits))
        noise_bits = max(noise_bits, math.log2(6 * worst))
    return math.ceil(requirement.precision_bits + noise_bits)


def _chain(requirement: Requirement, ring_degree: int, scale_bits: int) -> CKKSParams:
    base = min(scale_bits + INTEGER_BITS, MAX_PRIME_BITS)
    return CKKSParams(
        ring_degree=ring_degree,
        data_bits=(base, *[scale_bits] * requirement.depth),
        # Key-switching noise grows with (largest data prime) / (special prime): make them equal.
        special_bits=(base if requirement.rotates else UNUSED_SPECIAL_BITS,),
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
        InvalidParameters: No ring of the table meets the requirement, the table does not have the one asked for or its
            noise is too large for the precision, or the precision is negative or not finite.
    """
    check_precision(requirement.precision_bits)
    table = load_table(requirement.table)
    rings = table.rings(requirement.security_bits)
    wanted = requirement.ring_degree
    if wanted is not None:
        check_wanted_ring(requirement, wanted, rings)
        rings = (wanted,)
    for ring_degree in rings:
        if ring_degree // 2 < requirement.slots:
            continue
        params = _largest_chain(requirement, ring_degree, table.limit(ring_degree, requirement.security_bits))
        if params is not None:
            return params
    if wanted is not None:
        _refuse_wanted_ring(requirement, wanted)
    raise InvalidParameters(
        f"No ring of security table {requirement.table} gives {requirement.slots} slots, depth {requirement.depth} and "
        f"{requirement.precision_bits:g} bits of precision at {requirement.security_bits}-bit security.",
        hint="Split the module, use a packing of less depth, or ask for less precision or security.",
    )


def check_precision(precision_bits: float) -> None:
    """Refuse a precision that nobody can mean.

    Raises:
        InvalidParameters: It is negative or not finite.
    """
    if not 0 <= precision_bits < math.inf:
        raise InvalidParameters(
            f"A precision of {precision_bits:g} bits makes no sense.",
            hint="Ask for about 12 bits, which is what half precision has, or for 0 to accept any.",
        )


class RingRequirement(Protocol):
    """What is asked of a ring, whatever the chain."""

    @property
    def slots(self) -> int: ...
    @property
    def security_bits(self) -> int: ...
    @property
    def table(self) -> str: ...


def check_wanted_ring(requirement: RingRequirement, wanted: int, rings: tuple[int, ...]) -> None:
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


def _refuse_wanted_ring(requirement: Requirement, wanted: int) -> None:
    """Say why no chain of this ring will do: precision, or else security, in the table's terms."""
    scale_bits = required_scale_bits(requirement, wanted)
    if scale_bits > MAX_SCALE_BITS:
        raise InvalidParameters(
            f"At ring degree {wanted}, {requirement.precision_bits:g} bits of precision take a scale of "
            f"2^{scale_bits}; the largest is 2^{MAX_SCALE_BITS}.",
            hint="Ask for less precision, or for a smaller ring, which has less noise.",
        )
    narrowest = _chain(requirement, wanted, scale_bits)
    require_secure(narrowest, security_bits=requirement.security_bits, table=requirement.table)
