"""Results without the low bits that decryption cannot see: the ability, and the refusals that belong to it.

A clean result's coefficients modulo the base prime are rounded to multiples of a power of two, and only the quotients
are sent. Whoever has the result could do that, so it says no more of the weights than the result does. The error of
c₁'s rounding is multiplied by the secret, so c₁ keeps more bits than c₀.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.params.ckks import CKKSParams

LowBits: TypeAlias = tuple[int, int]
"""How many low bits c₀ and c₁ have lost."""

ALL_KEPT: LowBits = (0, 0)


def low_bits_of(stated: tuple[int, ...]) -> LowBits:
    """What a plan's operation states, which is nothing if all bits are kept."""
    return (stated[0], stated[1]) if stated else ALL_KEPT


@runtime_checkable
class SupportsShortResults(Protocol):
    """A role, of client or server, of a library whose results can be sent without low bits."""

    def low_bits(self, ciphertext: Any) -> LowBits:
        """The bits that a ciphertext has lost, also after it was sent; none for all but those of ``shortened``."""
        ...


@runtime_checkable
class SupportsShortening(SupportsShortResults, Protocol):
    """The server's role of such a library. Core calls it after sanitising, of whichever kind that is."""

    def shortened(self, ciphertext: Any, low_bits: LowBits) -> Any:
        """A ciphertext at level 0 with each polynomial's coefficients rounded to multiples of 2 to so many bits.

        They are rounded to the nearest, ties so that no mean is left. What comes back is serialised, without those
        bits, and decrypted; nothing is computed with it.
        """
        ...


def check_shortenable(level: int, low_bits: LowBits, params: CKKSParams, *, who: str) -> None:
    """Refuse to drop bits that are not there.

    Raises:
        InvalidInput: The ciphertext is not at level 0, or the base prime has not so many bits and one more.
    """
    most = params.data_bits[0] - 1
    if level or not all(0 <= bits <= most for bits in low_bits):
        raise InvalidInput(
            f"{who}: {low_bits[0]} and {low_bits[1]} low bits of a ciphertext at level {level}.",
            hint=f"Drop 0 to {most} bits of each polynomial, of a result at level 0.",
        )


def check_low_bits(found: LowBits, expected: LowBits, *, who: str) -> None:
    """Refuse a ciphertext that has lost other bits than it should have.

    Raises:
        CorruptPayload: It has.
    """
    if found != expected:
        raise CorruptPayload(
            f"{who}: a ciphertext without {found[0]} and {found[1]} low bits of its polynomials, where "
            f"{expected[0]} and {expected[1]} are to be missing.",
            hint="Check that both sides run the same plan; only a server's results are sent without low bits.",
        )
