"""The slot layout that batched packings share: tokens interleaved, wide vectors cut into blocks.

T = slots/p tokens stand side by side: feature f of token t is in slot f·T + t, so that a rotation by k features is one
by k·T slots, cyclic in the p features, and all tokens share it. A vector of more than p features takes several
ciphertexts. ``InterleavedLayout`` and ``InterleavedPacking`` are the bases of such layouts and strategies; each packing
adds its program, its constants and its choice of periods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.packing.protocol import ModulusUse, Vector

MOST_PLAINTEXTS = 8192
"""Most plaintexts of a shortened period: more would fill the memory (these take 1.6 GB at N=8192 and three primes)."""


def power_of_two_at_or_above(number: int) -> int:
    """The smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()


def blocks(width: int, period: int) -> int:
    """How many ciphertexts a vector of ``width`` features takes: ⌈width/period⌉."""
    return -(-width // period)


def padded(matrix: Vector, rows: int, columns: int) -> Vector:
    """Pad the matrix with zeros, below and to the right, to rows × columns."""
    return np.pad(matrix, ((0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])))


def interleave(x: Vector, period: int, tokens_per_run: int) -> list[Vector]:
    """Slot vectors of period · tokens_per_run values, one per block, from activations of shape (tokens, width)."""
    count = blocks(x.shape[1], period)
    features = np.zeros((count * period, tokens_per_run))
    features[: x.shape[1], : x.shape[0]] = x.T
    return [block.ravel() for block in features.reshape(count, period, tokens_per_run)]


def deinterleave(outputs: list[Vector], period: int, tokens_per_run: int, tokens: int, width: int) -> Vector:
    """Values of shape (tokens, width) from slot vectors, one per block."""
    rows = [output[: period * tokens_per_run].reshape(period, tokens_per_run) for output in outputs]
    values: Vector = np.concatenate(rows)[:width, :tokens].T.copy()
    return values


def periods(
    widest: int,
    narrowest: int,
    slots: int,
    tokens: int | None,
    *,
    plaintexts: Callable[[int], int] = lambda period: 0,
) -> Iterator[int]:
    """Periods worth trying, the longest first: powers of two that divide the slots.

    A shorter period takes more ciphertexts and runs more tokens together, so it pays once there are that many.

    Args:
        widest: Features of the widest vector; the longest period holds them all, if the slots do.
        narrowest: No period is shorter than this power of two.
        slots: N/2.
        tokens: Tokens to run; None gives the longest period only.
        plaintexts: How many plaintexts a period takes: any number for the longest, ``MOST_PLAINTEXTS`` for the others.
    """
    period = min(power_of_two_at_or_above(widest), slots)
    yield period
    while tokens is not None and period > narrowest and slots // period < tokens:
        period //= 2
        if plaintexts(period) > MOST_PLAINTEXTS:
            return
        yield period


@dataclass(frozen=True)
class InterleavedLayout:
    """The slot layout of one shape; ``period`` is p."""

    shape: ModuleShape
    slots: int
    period: int

    @property
    def tokens_per_run(self) -> int:
        """T, the number of tokens side by side."""
        return self.slots // self.period

    @property
    def blocks_in(self) -> int:
        """B, the number of ciphertexts of x."""
        return blocks(self.shape.d_in, self.period)

    @property
    def blocks_out(self) -> int:
        """B', the number of ciphertexts of Δ."""
        return blocks(self.shape.d_out, self.period)

    @property
    def figures(self) -> Mapping[str, int]:
        """Period and blocks. A layout adds its other choices, since the plan's digest covers the figures."""
        return {"period": self.period, "blocks_in": self.blocks_in, "blocks_out": self.blocks_out}

    def pack(self, x: Vector) -> list[Vector]:
        """Slot vectors, one per block, from activations of shape (tokens, d_in)."""
        return interleave(x, self.period, self.tokens_per_run)

    def wanted(self, block: int) -> tuple[int, ...]:
        """The slots of a block of Δ to be read: its features, for all tokens. Empty if that is every slot."""
        features = min(self.period, self.shape.d_out - block * self.period)
        return tuple(range(features * self.tokens_per_run)) if features < self.period else ()

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        """Δ of shape (tokens, d_out) from slot vectors, one per block."""
        return deinterleave(outputs, self.period, self.tokens_per_run, tokens, self.shape.d_out)


class InterleavedPacking:
    """The base of strategies that rotate slots, spend one level per product and leave the client nothing to finish."""

    rotates = True
    encoding = Encoding.SLOTS
    modulus_use = ModulusUse.LEVELS
    client_finishes = False

    def min_slots(self, shape: ModuleShape) -> int:
        return 1
