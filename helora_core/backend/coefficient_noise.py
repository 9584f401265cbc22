"""Integers of any size as noise in a ciphertext's coefficients: drawn from the operating system's generator, and added.

They are added as plaintexts. A double carries 53 bits, and a library's transform loses a few of them: integers of more
than ``LIMB_BITS`` bits are therefore added limb by limb, so that every bit below the top one is covered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.encodings import checked_native
from helora_core.backend.protocol import Ciphertext, Evaluator, Plaintext
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams

Integers = NDArray[np.object_]
"""Python integers, shape (N,): coefficients of the encoded polynomial, which is values times the scale."""

LIMB_BITS = 48
"""Bits of an integer that pass through an encoder at once with less than half a unit of error: its transform goes
through doubles, of 53 bits, whose errors grow with the logarithm of N."""

_NORMAL_BITS = 46
_MOST_DOUBLINGS = 12


def uniform_integers(count: int, modulus: int) -> Integers:
    """Integers uniform in 0..modulus-1, but for a distance of 2^-64 each."""
    size = (modulus.bit_length() + 64 + 7) // 8
    drawn = secrets.token_bytes(size * count)
    integers = (int.from_bytes(drawn[i : i + size], "little") % modulus for i in range(0, len(drawn), size))
    return np.fromiter(integers, dtype=object, count=count)


def normal_integers(count: int, bits: int) -> Integers:
    """Integers of a normal distribution of standard deviation 2^bits.

    The highest 46 bits are normal variates, by Box and Muller's method; those below are uniform. To noise that exceeds
    one unit of the upper part this is a normal distribution, and smaller noise is hidden all the better.
    """
    pairs = -(-count // 2)
    words = np.frombuffer(secrets.token_bytes(16 * pairs), dtype=np.uint64).reshape(2, pairs)
    uniform = ((words >> np.uint64(11)) + 1.0) * 2.0**-53  # in (0, 1]: its logarithm is finite
    radius = np.sqrt(-2.0 * np.log(uniform[0]))
    angle = 2.0 * np.pi * uniform[1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    lower_bits = max(0, bits - _NORMAL_BITS)
    upper = np.rint(normal * 2.0 ** (bits - lower_bits)).astype(np.int64).astype(object)
    integers: Integers = upper * (1 << lower_bits)
    return integers + uniform_integers(count, 1 << lower_bits) if lower_bits else integers


def centred(integers: Integers, modulus: int) -> Integers:
    """The representatives of least size."""
    least: Integers = (integers + modulus // 2) % modulus - modulus // 2
    return least


def add_integers(
    evaluator: Evaluator, params: CKKSParams, capabilities: Capabilities, ciphertext: Ciphertext, integers: Integers
) -> Ciphertext:
    """Add coefficients in integer units, limb by limb, exactly up to 2^-50 of the largest.

    Raises:
        CapabilityMissing: The backend takes neither coefficients nor complex slots, or no plaintext of this scale.
        PrecisionLost: They do not fit the modulus.
    """
    level, scale = evaluator.level(ciphertext), evaluator.scale(ciphertext)
    for limb, shift in _limbs(integers):
        unit = 2.0**shift / scale

        def encode(part: NDArray[np.int64], unit: float = unit) -> Plaintext:
            native, values = checked_native(
                part * unit, Encoding.COEFFICIENTS, capabilities, params.slots, who="add_integers"
            )
            return evaluator.encode(values, level=level, scale=scale, encoding=native)

        for plaintext in _in_parts(limb, encode):
            ciphertext = evaluator.add_plain(ciphertext, plaintext)
    return ciphertext


def _limbs(integers: Integers) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Limbs of at most ``LIMB_BITS`` bits and a sign, highest first, and the bits that each is shifted to the left."""
    bits = max(int(integer).bit_length() for integer in integers)
    count = -(-bits // LIMB_BITS)
    for shift in (bits * i // count for i in reversed(range(count))):
        limb = integers >> shift
        integers = integers - (limb << shift)
        # No library encodes zero without an exception of its own, and there is nothing to add.
        if limb.any():
            yield limb.astype(np.int64), shift


def _in_parts(limb: NDArray[np.int64], encode: Callable[[NDArray[np.int64]], Plaintext]) -> Iterator[Plaintext]:
    """Encodings of integers that add up to the limb: one, if the encoder takes it so near the modulus, or more.

    Raises:
        PrecisionLost: Its smallest parts do not fit either.
    """
    for parts in (1 << doublings for doublings in range(_MOST_DOUBLINGS + 1)):
        quotient, rest = np.divmod(limb, parts)
        try:
            first = encode(quotient + (rest > 0))
        except PrecisionLost:
            if parts == 1 << _MOST_DOUBLINGS:
                raise
            continue
        yield first
        yield from (encode(quotient + (rest > part)) for part in range(1, parts))
        return
