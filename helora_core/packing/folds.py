"""Folds: sums over the blocks of a ciphertext, which leave the total in every block.

A fold of radix ρ at a distance k is y + Σ_{0<j<ρ} rot(y, j·k); the next one has the distance ρ·k. Radix 2 takes the
fewest rotations and keys. A larger one does more of them on one value, which is decomposed once, and divides their sum
once: it pays where decomposing and dividing cost more than the products with keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import ProgramBuilder, Value

_LARGEST = 3
"""log2 of the largest radix: a larger one would replace two folds by at least twice as many products with keys."""


def best_radices(blocks: int, costs: OperationCosts) -> tuple[int, ...]:
    """The cheapest radices, each 2, 4 or 8, to add up ``blocks`` blocks, a power of two. Ties go to fewer rotations."""

    def cost(radices: tuple[int, ...]) -> tuple[float, int]:
        rotations = sum(radices) - len(radices)
        shared = len(radices) * (costs.decompose + costs.divide)
        return shared + rotations * (costs.key_product + costs.add), rotations

    return min(_splits(blocks.bit_length() - 1, _LARGEST), key=cost)


def _splits(doublings: int, largest: int) -> Iterator[tuple[int, ...]]:
    """All radices whose product is 2^doublings, each no larger than 2^largest and than the one before."""
    if doublings == 0:
        yield ()
    for exponent in range(1, min(doublings, largest) + 1):
        for others in _splits(doublings - exponent, exponent):
            yield (1 << exponent, *others)


def folded(
    builder: ProgramBuilder,
    value: Value,
    radices: tuple[int, ...],
    distance: int,
    rotate: Callable[[Value, int], Value],
) -> Value:
    """The value with its blocks added up.

    Args:
        builder: Takes the operations.
        value: What to fold.
        radices: The radix of each fold; their product is the number of blocks.
        distance: From block to block, in the unit of ``rotate``.
        rotate: Rotates a value.
    """
    for radix in radices:
        value = builder.sum([value, *(rotate(value, j * distance) for j in range(1, radix))])
        distance *= radix
    return value


def figure(radices: tuple[int, ...]) -> dict[str, int]:
    """The radices for a layout's figures, as the digits of a number; none if all are 2."""
    return {"fold_radices": int("".join(map(str, radices)))} if math.prod(radices) > 2 ** len(radices) else {}
