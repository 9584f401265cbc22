"""The slots that batched packings share: tokens interleaved, wide vectors cut into blocks.

T = slots/p tokens stand side by side: feature f of token t is in slot f·T + t, so that a rotation by k features is one
by k·T slots, cyclic in the p features, and all tokens share it. A vector of more than p features takes several
ciphertexts. ``InterleavedLayout`` and ``InterleavedPacking`` hold what follows from that for layouts and strategies;
each packing adds its program, its constants and its choice of periods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.packing.protocol import ModulusUse, Vector

MOST_PLAINTEXTS = 8192
"""A shorter period stops paying where its plaintexts fill the memory: 1.6 GB of them at N=8192 and three primes."""


def power_of_two_at_or_above(number: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << (number - 1).bit_length()


def blocks(width: int, period: int) -> int:
    """Ciphertexts that a vector of ``width`` features takes."""
    return -(-width // period)


def padded(matrix: Vector, rows: int, columns: int) -> Vector:
    """The matrix with zeros below and to the right, rows × columns."""
    return np.pad(matrix, ((0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])))


def interleave(x: Vector, period: int, tokens_per_run: int) -> list[Vector]:
    """Slot vectors of period · tokens_per_run values, one a block, from activations of shape (tokens, width)."""
    count = blocks(x.shape[1], period)
    features = np.zeros((count * period, tokens_per_run))
    features[: x.shape[1], : x.shape[0]] = x.T
    return [block.ravel() for block in features.reshape(count, period, tokens_per_run)]


def deinterleave(outputs: list[Vector], period: int, tokens_per_run: int, tokens: int, width: int) -> Vector:
    """Values of shape (tokens, width) from slot vectors, one a block."""
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
        plaintexts: How many a period takes. The longest may take any number, a shorter one ``MOST_PLAINTEXTS``.
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
    """The slots of one shape: ``period`` is p."""

    shape: ModuleShape
    slots: int
    period: int

    @property
    def tokens_per_run(self) -> int:
        """T: tokens that stand side by side."""
        return self.slots // self.period

    @property
    def blocks_in(self) -> int:
        """B: ciphertexts that x takes."""
        return blocks(self.shape.d_in, self.period)

    @property
    def blocks_out(self) -> int:
        """B': ciphertexts that Δ takes."""
        return blocks(self.shape.d_out, self.period)

    @property
    def figures(self) -> Mapping[str, int]:
        """Period and blocks; a layout adds what else it chose, for the plan's digest covers the figures."""
        return {"period": self.period, "blocks_in": self.blocks_in, "blocks_out": self.blocks_out}

    def pack(self, x: Vector) -> list[Vector]:
        """Slot vectors, one a block, from activations of shape (tokens, d_in)."""
        return interleave(x, self.period, self.tokens_per_run)

    def wanted(self, block: int) -> tuple[int, ...]:
        """The slots of a block of Δ that are meant to be read, its features of all tokens; empty if these are all."""
        features = min(self.period, self.shape.d_out - block * self.period)
        return tuple(range(features * self.tokens_per_run)) if features < self.period else ()

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        """Δ of shape (tokens, d_out) from slot vectors, one a block."""
        return deinterleave(outputs, self.period, self.tokens_per_run, tokens, self.shape.d_out)


class InterleavedPacking:
    """What the strategies share: slots that rotate, a level a product, and nothing for the client to finish."""

    rotates = True
    encoding = Encoding.SLOTS
    modulus_use = ModulusUse.LEVELS
    client_finishes = False

    def min_slots(self, shape: ModuleShape) -> int:
        return 1
