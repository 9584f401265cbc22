"""``halevi_shoup``: every diagonal of the merged d_out × d_in matrix. The usual baseline.

Why it is here: it is the standard way to multiply a plain matrix by an encrypted vector, so a packing for LoRA has to
beat it. It cannot use the rank: ΔW = (α/r)·up·down is merged beforehand, and a merged matrix has full diagonals.

Layout. As ``rank_bsgs``: the period p is a power of two, T = slots/p tokens are interleaved, feature f of token t
stands in slot f·T + t, x takes B = ⌈d_in/p⌉ ciphertexts and Δ takes B' = ⌈d_out/p⌉. Below, m and i count features, and
M is ΔW padded to B'·p rows and B·p columns.

    Δ_c = Σ_b Σ_{i<p} diag_{c,b,i} ∘ rot(x_b, i),   diag_{c,b,i}[m] = M[c·p + m, b·p + (m+i) mod p]

Every diagonal is rotated back by i beforehand, e_i[m] = diag_i[m − i]. Then all rotations move outside, and the sum
follows Horner's rule: always by one step, so with one rotation key of a megabyte instead of p − 1, and with about
B + B' ciphertexts alive instead of p.

    Δ_c = Σ_i rot(Σ_b e_{c,b,i} ∘ x_b, i) = s_0 + rot(s_1 + rot(s_2 + …, 1), 1),   s_i = Σ_b e_{c,b,i} ∘ x_b

A term is rotated up to p − 1 times, so the noise of key switches grows with √p. But the rotations act on products, at
the scale of x times that of the weights, where this noise is smaller by the factor that the rescale removes.

Cost: B'(p−1) rotations, one key switch each; B·B'·p ct×pt; B' rescales; B ciphertexts up and B' down. A shorter period
runs more tokens for the same B'(p−1) ≈ d_out rotations, and takes more plaintexts: p is cut down until there would be
more than ``MOST_PLAINTEXTS``. Leakage: nothing beyond Δ, for sanitised results.

Source: Halevi and Shoup, *Algorithms in HElib* (CRYPTO 2014), section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.packing.costs import OperationCosts
from helora_core.packing.interleaved import InterleavedLayout, InterleavedPacking, blocks, padded, periods
from helora_core.packing.protocol import ProgramBuilder, ScaleRole, Value, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


@dataclass(frozen=True)
class MergedDiagonalsLayout(InterleavedLayout):
    """Diagonals of the merged matrix for one shape; with ``baby_steps`` n = 1 there are giant steps only."""

    baby_steps: int

    @property
    def figures(self) -> Mapping[str, int]:
        return {**super().figures, "baby_steps": self.baby_steps}

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self.blocks_in)]
        babies = [[builder.rotate(block, baby * self.tokens_per_run) for baby in range(self.baby_steps)] for block in x]
        for block_out in range(self.blocks_out):
            builder.output(builder.rescale(self._delta(builder, babies, block_out)), keep=self.wanted(block_out))

    def _delta(self, builder: ProgramBuilder, babies: list[list[Value]], block_out: int) -> Value:
        """Block c of Δ: the giant steps from the last to the first, by Horner's rule."""
        *giants, last = range(0, self.period, self.baby_steps)
        total = self._giant(builder, babies, block_out, last)
        for giant in reversed(giants):
            rotated = builder.rotate(total, self.baby_steps * self.tokens_per_run)
            total = builder.add(rotated, self._giant(builder, babies, block_out, giant))
        return total

    def _giant(self, builder: ProgramBuilder, babies: list[list[Value]], block_out: int, giant: int) -> Value:
        """Σ_b Σ_{i} e_{c,b,giant+i} ∘ rot(x_b, i), over the baby steps i."""
        return builder.sum(
            [
                builder.multiply_plain(baby, f"merged.{block_out}.{block_in}.{giant + i}", ScaleRole.DOWN)
                for block_in, rotated in enumerate(babies)
                for i, baby in enumerate(rotated)
            ]
        )

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        features, period = np.arange(self.period), self.period
        merged = padded(module.scaled_up @ module.down, self.blocks_out * period, self.blocks_in * period)
        for block_out in range(self.blocks_out):
            for block_in in range(self.blocks_in):
                block = merged[block_out * period :, block_in * period :]
                for i in range(period):
                    # Diagonal i, rotated back by its giant step: row m − giant meets column m + baby.
                    giant = i - i % self.baby_steps
                    diagonal = block[(features - giant) % period, (features + i - giant) % period]
                    yield f"merged.{block_out}.{block_in}.{i}", np.repeat(diagonal, self.tokens_per_run)


class HaleviShoup(InterleavedPacking):
    """The strategy; ``halevi_shoup_bsgs`` differs in the number of baby steps."""

    name = "halevi_shoup"
    version = 1
    depth = 1
    leakage = Leakage(
        key_holder=LeakageClass.NOTHING,
        needs_sanitize=True,
        explanation="The key holder decrypts Δ alone; the server computes with the merged matrix.",
    )

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[MergedDiagonalsLayout]:
        def plaintexts(period: int) -> int:
            return blocks(shape.d_in, period) * blocks(shape.d_out, period) * period

        for period in periods(max(shape.d_in, shape.d_out), 1, slots, tokens, plaintexts=plaintexts):
            yield MergedDiagonalsLayout(shape, slots, period, self._baby_steps(shape, period, costs))

    def _baby_steps(self, shape: ModuleShape, period: int, costs: OperationCosts) -> int:
        """n, the number of baby steps for a period."""
        return 1
