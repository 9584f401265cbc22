"""Draws integer noise of any size from the operating system's generator, and adds it to a ciphertext's coefficients.

The integers are added as plaintexts, exactly if the backend encodes integers. Otherwise a double carries 53 bits, of
which a library's transform loses a few, so integers of more than 48 bits are added limb by limb, and every bit below
the top one is covered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.checked_evaluator import CheckedEvaluator
from helora_core.backend.embedding import slots_to_coefficients
from helora_core.backend.encodings import checked_native
from helora_core.backend.handles import Ciphertext, Plaintext
from helora_core.backend.ntt import Residues
from helora_core.backend.residues import LIMB_BITS, Integers, Limbs
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams

LARGEST_NORMAL = 8.6
"""No normal variate is larger: uniform numbers are at least 2^-53, and √(2·53·ln 2) is 8.57."""

_NORMAL_BITS = 46
_TOP_BITS = 51
"""Longest highest limb, in bits: the bits it loses are covered by the limbs below."""
_TAIL_BITS = 4  # above LARGEST_NORMAL
_MOST_PARTS = 1 << 12


def _random(count: int, bits: int) -> Limbs:
    """Integers uniform in 0..2^bits-1, of at most 63 bits."""
    words = np.frombuffer(secrets.token_bytes(8 * count), dtype=np.uint64)
    return (words >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(count, dtype=np.int64)


def _normal(count: int) -> NDArray[np.float64]:
    """Standard normal variates, by Box and Muller's method; none exceeds ``LARGEST_NORMAL``."""
    pairs = -(-count // 2)
    words = np.frombuffer(secrets.token_bytes(16 * pairs), dtype=np.uint64).reshape(2, pairs)
    uniform = ((words >> np.uint64(11)) + 1.0) * 2.0**-53  # in (0, 1]: its logarithm is finite
    radius = np.sqrt(-2.0 * np.log(uniform[0]))
    angle = 2.0 * np.pi * uniform[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def normal_integers(count: int, bits: int) -> Integers:
    """Integers from a normal distribution of standard deviation 2^bits.

    The highest 46 bits are normal variates, by Box and Muller's method; the lower bits are uniform. Noise that exceeds
    one unit of the upper part is hidden as by a normal distribution, and smaller noise is hidden even better.
    """
    normal = _normal(count)
    lower_bits = max(0, bits - _NORMAL_BITS)
    upper = np.rint(normal * 2.0 ** (bits - lower_bits)).astype(np.int64)
    full, shift = divmod(lower_bits, LIMB_BITS)
    limbs = [_random(count, LIMB_BITS) for _ in range(full)]
    if shift + _NORMAL_BITS + _TAIL_BITS <= _TOP_BITS:
        return Integers(np.array([*limbs, (upper << shift) + _random(count, shift)]))
    low = upper & ((1 << (LIMB_BITS - shift)) - 1)
    return Integers(np.array([*limbs, (low << shift) + _random(count, shift), upper >> (LIMB_BITS - shift)]))


def normal_in_slots(ring_degree: int, bits: int, readable: NDArray[np.bool_], generator: int) -> Integers:
    """Integers whose polynomial is normal noise in the slots, except zero in the real parts that may be read.

    Args:
        ring_degree: N.
        bits: log2 of the standard deviation of a slot's real part, and of its imaginary part, in integer units.
        readable: bool, shape (N/2,): the slots whose real part stays as it is, up to 2^-50 of the noise elsewhere.
        generator: The backend's ``slot_generator``.
    """
    normal = _normal(ring_degree)
    slots = normal[: ring_degree // 2] * ~readable + 1j * normal[ring_degree // 2 :]
    coefficients = slots_to_coefficients(slots, ring_degree, generator) * 2.0**bits
    # Doubles leave low bits at zero. Random bits fill them, since the hidden values would show there where the flood is
    # smaller than they are.
    return Integers.of_values(coefficients, 1.0).plus(_below(np.frexp(np.spacing(coefficients))[1] - 1))


def _below(bits: NDArray[np.int32]) -> Integers:
    """Integers uniform in 0..2^bits-1, with ``bits`` for each of them; 0 for less than one bit."""
    limbs = []
    for j in range(max(1, -(-int(np.max(bits)) // LIMB_BITS))):
        wanted = np.clip(bits - LIMB_BITS * j, 0, LIMB_BITS)
        limbs.append(_random(bits.size, LIMB_BITS) >> (LIMB_BITS - wanted))
    return Integers(np.array(limbs))


def add_integers(
    evaluator: CheckedEvaluator,
    params: CKKSParams,
    capabilities: Capabilities,
    ciphertext: Ciphertext,
    integers: Integers,
) -> Ciphertext:
    """Add coefficients in integer units: all at once and exactly if the backend encodes integers; otherwise limb by
    limb, exact to 2^-50 of the largest.

    Raises:
        CapabilityMissing: The backend takes neither integers nor complex slots, or no plaintexts of this scale.
        PrecisionLost: They do not fit the modulus.
    """
    if capabilities.exact_integers:
        primes = params.data_primes[: evaluator.level(ciphertext) + 1]
        return add_residues(evaluator, ciphertext, integers.residues(primes))
    level, scale = evaluator.level(ciphertext), evaluator.scale(ciphertext)
    for j in reversed(range(len(integers.limbs))):
        limb, unit = integers.limbs[j], 2.0 ** (LIMB_BITS * j) / scale

        def encode(part: Limbs, unit: float = unit) -> Plaintext:
            native, values = checked_native(
                part * unit, Encoding.COEFFICIENTS, capabilities, params, level=level, scale=scale, who="add_integers"
            )
            return evaluator.encoder.encode(values, level=level, scale=scale, encoding=native)

        # A zero limb is skipped: there is nothing to add, and libraries treat zero as a special case.
        for plaintext in _in_parts(limb, encode) if limb.any() else ():
            ciphertext = evaluator.add_plain(ciphertext, plaintext)
    return ciphertext


def add_residues(evaluator: CheckedEvaluator, ciphertext: Ciphertext, residues: Residues) -> Ciphertext:
    """Add a polynomial modulo the level's primes, exactly; for backends with ``exact_integers``."""
    plaintext = evaluator.encoder.encode(
        residues, level=evaluator.level(ciphertext), scale=evaluator.scale(ciphertext), encoding=Encoding.INTEGERS
    )
    return evaluator.add_plain(ciphertext, plaintext)


def _in_parts(limb: Limbs, encode: Callable[[Limbs], Plaintext]) -> list[Plaintext]:
    """Encodings of integers that add up to the limb: one, or several if the limb is too close to the modulus for one.

    Raises:
        PrecisionLost: Even the smallest parts do not fit.
    """
    parts = 1
    while True:
        quotient, rest = np.divmod(limb, parts)
        try:
            return [encode(quotient + (rest > part)) for part in range(parts)]
        except PrecisionLost:
            if parts == _MOST_PARTS:
                raise
            parts *= 2
