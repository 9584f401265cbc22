"""Integers of any size as noise in a ciphertext's coefficients: drawn from the operating system's generator, and added.

They are added as plaintexts. A double carries 53 bits, and a library's transform loses a few of them: integers of more
than ``LIMB_BITS`` bits are therefore added limb by limb, so that every bit below the top one is covered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.encodings import checked_native
from helora_core.backend.protocol import Ciphertext, Evaluator, Plaintext
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams

LIMB_BITS = 48
"""Bits of an integer that pass through an encoder at once with less than half a unit of error: its transform goes
through doubles, of 53 bits, whose errors grow with the logarithm of N."""

_NORMAL_BITS = 46
_TOP_BITS = 51
"""The highest limb may be this long: what it loses is covered by the limbs below."""
_TAIL_BITS = 4
"""No normal variate is drawn above 2^4 standard deviations: uniform numbers end at 2^-53."""
_MOST_PARTS = 1 << 12

Residues = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Integers:
    """Integers of any size, in limbs: the coefficients of an encoded polynomial, which is values times the scale.

    Attributes:
        limbs: int64, shape (k, N): the integers are Σ limbs[j] · 2^(48·j). Limbs may be negative.
    """

    limbs: Residues

    def where(self, chosen: NDArray[np.bool_], other: Integers) -> Integers:
        """These integers where ``chosen``, of shape (N,), and the other ones elsewhere."""
        count = max(len(self.limbs), len(other.limbs))
        return Integers(np.where(chosen, _padded(self.limbs, count), _padded(other.limbs, count)))

    def exact(self) -> list[int]:
        """As Python's integers."""
        return [sum(int(limb) << (LIMB_BITS * j) for j, limb in enumerate(limbs)) for limbs in self.limbs.T]


def _padded(limbs: Residues, count: int) -> Residues:
    return np.pad(limbs, ((0, count - len(limbs)), (0, 0)))


def _random(count: int, bits: int) -> Residues:
    """Integers uniform in 0..2^bits-1, of at most 63 bits."""
    words = np.frombuffer(secrets.token_bytes(8 * count), dtype=np.uint64)
    return (words >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(count, dtype=np.int64)


def uniform_integers(count: int, modulus: int) -> Integers:
    """Integers uniform in 0..modulus-1, exactly: what is drawn too large is drawn again."""
    bits = (modulus - 1).bit_length()
    limbs = np.zeros((max(1, -(-bits // LIMB_BITS)), count), dtype=np.int64)
    missing = np.arange(count)
    while missing.size:
        for j in range(len(limbs)):
            limbs[j, missing] = _random(missing.size, min(LIMB_BITS, bits - LIMB_BITS * j))
        missing = missing[_at_least(limbs[:, missing], modulus)]
    return Integers(limbs)


def centred(residues: Integers, modulus: int) -> Integers:
    """The representatives of least size of residues in 0..modulus-1."""
    above = _at_least(residues.limbs, modulus // 2 + 1)
    return Integers(residues.limbs - above * _limbs_of(modulus, len(residues.limbs))[:, np.newaxis])


def _limbs_of(integer: int, count: int) -> Residues:
    mask = (1 << LIMB_BITS) - 1
    lower = [integer >> (LIMB_BITS * j) & mask for j in range(count - 1)]
    return np.array([*lower, integer >> (LIMB_BITS * (count - 1))], dtype=np.int64)


def _at_least(limbs: Residues, bound: int) -> NDArray[np.bool_]:
    """Where integers whose limbs are not negative are at least ``bound``."""
    above = np.zeros(limbs.shape[1], dtype=bool)
    equal = ~above
    for limb, of_bound in zip(limbs[::-1], _limbs_of(bound, len(limbs))[::-1], strict=True):
        above |= equal & (limb > of_bound)
        equal &= limb == of_bound
    return above | equal


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
    upper = np.rint(normal * 2.0 ** (bits - lower_bits)).astype(np.int64)
    full, shift = divmod(lower_bits, LIMB_BITS)
    limbs = [_random(count, LIMB_BITS) for _ in range(full)]
    if shift + _NORMAL_BITS + _TAIL_BITS <= _TOP_BITS:
        return Integers(np.array([*limbs, (upper << shift) + _random(count, shift)]))
    low = upper & ((1 << (LIMB_BITS - shift)) - 1)
    return Integers(np.array([*limbs, (low << shift) + _random(count, shift), upper >> (LIMB_BITS - shift)]))


def add_integers(
    evaluator: Evaluator, params: CKKSParams, capabilities: Capabilities, ciphertext: Ciphertext, integers: Integers
) -> Ciphertext:
    """Add coefficients in integer units, limb by limb, exactly up to 2^-50 of the largest.

    Raises:
        CapabilityMissing: The backend takes neither coefficients nor complex slots, or no plaintext of this scale.
        PrecisionLost: They do not fit the modulus.
    """
    level, scale = evaluator.level(ciphertext), evaluator.scale(ciphertext)
    for j in reversed(range(len(integers.limbs))):
        limb, unit = integers.limbs[j], 2.0 ** (LIMB_BITS * j) / scale

        def encode(part: Residues, unit: float = unit) -> Plaintext:
            native, values = checked_native(
                part * unit, Encoding.COEFFICIENTS, capabilities, params.slots, who="add_integers"
            )
            return evaluator.encode(values, level=level, scale=scale, encoding=native)

        # No library encodes zero without an exception of its own, and there is nothing to add.
        for plaintext in _in_parts(limb, encode) if limb.any() else ():
            ciphertext = evaluator.add_plain(ciphertext, plaintext)
    return ciphertext


def _in_parts(limb: NDArray[np.int64], encode: Callable[[NDArray[np.int64]], Plaintext]) -> list[Plaintext]:
    """Encodings of integers that add up to the limb: one, if the encoder takes it so near the modulus, or more.

    Raises:
        PrecisionLost: Its smallest parts do not fit either.
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
