"""``rank_bsgs``: hybrid diagonals for ``down``, folds, then baby-step giant-step for ``up``. The default.

Why: a LoRA has rank r far below its dimensions, and rotations are expensive. Halevi-Shoup diagonals of the merged d×d
matrix cost about 2·sqrt(d) rotations; going through the rank costs about 4·sqrt(r) + log2(d/r), is just as exact, and
shows the key holder nothing but Δ.

Layout. The period p is a power of two, r₂ the one at or above r. T = slots/p tokens are interleaved: feature f of token
t stands in slot f·T + t. A rotation by k features is one by k·T slots, and cyclic in the features, so all T tokens
share it. x takes B = ⌈d_in/p⌉ ciphertexts and Δ takes B' = ⌈d_out/p⌉. For few tokens p holds the widest vector, or as
much of it as the slots allow; for more tokens, a shorter period, down to p = r₂, runs more of them with hardly more
rotations.
Below, m and i count features; D is ``down`` padded to r₂ rows, U is (α/r)·``up`` padded to r₂ columns.

1. y = Σ_b Σ_{i<r₂} diag_{b,i} ∘ rot(x_b, i),  diag_{b,i}[m] = D[m mod r₂, b·p + (m+i) mod p].
2. Folds: for k = r₂, 2r₂, …, p/2:  y += rot(y, k). Then y[m] = z[m mod r₂] with z = down·x, already replicated. Where
   it pays, folds of larger radix take fewer steps (``folds``).
3. Δ_c = Σ_{i<r₂} diag'_{c,i} ∘ rot(y, i),  diag'_{c,i}[m] = U[c·p + m, (m+i) mod r₂].

Sums 1 and 3 are baby-step giant-step: i = g·n + b, the diagonal is rotated back by g·n beforehand, and each giant step
rotates a whole inner sum: Σ_g rot(Σ_b rot(diag, −g·n) ∘ rot(x, b), g·n). Blocks of x share the giant steps of 1, and
blocks of Δ the baby steps of 3.

Cost: B(n−1) + r₂/n − 1 + log2(p/r₂) + (n'−1) + B'(r₂/n'−1) rotations, one key switch each; (B+B')·r₂ ct×pt; 1 + B'
rescales; B ciphertexts up and B' down. A fold of radix ρ takes ρ−1 rotations instead of log2(ρ). Leakage: nothing
beyond Δ, for sanitised results.

Source: diagonals after Halevi and Shoup (CRYPTO 2014) and GAZELLE's hybrid method (USENIX Security 2018), baby and
giant steps after Halevi and Shoup (CRYPTO 2018), applied to both factors of a LoRA. The short periods are our addition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.errors import SlotOverflow
from helora_core.packing import folds
from helora_core.packing.baby_steps import best_baby_steps
from helora_core.packing.costs import OperationCosts
from helora_core.packing.interleaved import (
    InterleavedLayout,
    InterleavedPacking,
    blocks,
    padded,
    periods,
    power_of_two_at_or_above,
)
from helora_core.packing.protocol import ProgramBuilder, ScaleRole, Value, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


@dataclass(frozen=True)
class RankBSGSLayout(InterleavedLayout):
    """``rank_bsgs`` for one shape: ``padded_rank`` is r₂, the baby steps are n and n', the folds have these radices."""

    padded_rank: int
    baby_steps_down: int
    baby_steps_up: int
    fold_radices: tuple[int, ...]

    @property
    def figures(self) -> Mapping[str, int]:
        # Plan files and tables keep this order, the rank beside the period.
        return {
            "period": self.period,
            "padded_rank": self.padded_rank,
            **super().figures,
            "baby_steps_down": self.baby_steps_down,
            "baby_steps_up": self.baby_steps_up,
            **folds.figure(self.fold_radices),
        }

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self.blocks_in)]
        sources = [self._babies(builder, block, self.baby_steps_down) for block in x]
        names = [f"down.{block}" for block in range(self.blocks_in)]
        y = builder.rescale(self._diagonal_sum(builder, sources, names, self.baby_steps_down, ScaleRole.DOWN))
        y = folds.folded(builder, y, self.fold_radices, self.padded_rank, partial(self._rotate, builder))
        babies = self._babies(builder, y, self.baby_steps_up)
        for block in range(self.blocks_out):
            delta = self._diagonal_sum(builder, [babies], [f"up.{block}"], self.baby_steps_up, ScaleRole.UP)
            builder.output(builder.rescale(delta), keep=self.wanted(block))

    def _rotate(self, builder: ProgramBuilder, value: Value, features: int) -> Value:
        return builder.rotate(value, features * self.tokens_per_run)

    def _babies(self, builder: ProgramBuilder, value: Value, baby_steps: int) -> list[Value]:
        return [self._rotate(builder, value, baby) for baby in range(baby_steps)]

    def _diagonal_sum(
        self, builder: ProgramBuilder, sources: list[list[Value]], names: list[str], baby_steps: int, role: ScaleRole
    ) -> Value:
        """Σ over sources, each with its baby steps, and over all r₂ diagonals named ``<name>.<i>``."""
        giants = []
        for giant in range(0, self.padded_rank, baby_steps):
            terms = [
                builder.multiply_plain(babies[baby], f"{name}.{giant + baby}", role)
                for babies, name in zip(sources, names, strict=True)
                for baby in range(baby_steps)
            ]
            giants.append(self._rotate(builder, builder.sum(terms), giant))
        return builder.sum(giants)

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        features, rank = np.arange(self.period), self.padded_rank
        down = padded(module.down, rank, self.blocks_in * self.period)
        up = padded(module.scaled_up, self.blocks_out * self.period, rank)
        for block in range(self.blocks_in):
            start = block * self.period
            for i in range(rank):
                diagonal = down[features % rank, start + (features + i) % self.period]
                yield f"down.{block}.{i}", self._constant(diagonal, i, self.baby_steps_down)
        for block in range(self.blocks_out):
            start = block * self.period
            for i in range(rank):
                diagonal = up[start + features, (features + i) % rank]
                yield f"up.{block}.{i}", self._constant(diagonal, i, self.baby_steps_up)

    def _constant(self, diagonal: Vector, i: int, baby_steps: int) -> Vector:
        """The i-th diagonal, rotated back by its giant step and repeated for every interleaved token."""
        giant = i - i % baby_steps
        return np.repeat(np.roll(diagonal, giant), self.tokens_per_run)


class RankBSGS(InterleavedPacking):
    """The strategy."""

    name = "rank_bsgs"
    version = 2
    depth = 2
    leakage = Leakage(
        key_holder=LeakageClass.NOTHING,
        needs_sanitize=True,
        explanation="The key holder decrypts Δ alone.",
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return power_of_two_at_or_above(shape.rank)

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[RankBSGSLayout]:
        rank = self.min_slots(shape)
        if rank > slots:
            raise SlotOverflow(
                f"Packing {self.name}: module {shape} needs {rank} slots for its rank, and there are {slots}.",
                hint=f"Use a ring degree of at least {2 * rank}.",
            )
        widest = max(shape.d_in, shape.d_out, shape.rank)
        for period in periods(widest, rank, slots, tokens):
            down = best_baby_steps(rank, sources=blocks(shape.d_in, period), sinks=1, costs=costs)
            up = best_baby_steps(rank, sources=1, sinks=blocks(shape.d_out, period), costs=costs)
            yield RankBSGSLayout(shape, slots, period, rank, down, up, folds.best_radices(period // rank, costs))
