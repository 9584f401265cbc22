"""``outer_product``: r inner products, each broadcast and multiplied by its column of ``up``. The textbook method.

Why it is here: Δ = Σ_j (down_j · x)·up_j is how LoRA is written down, and the first program to come to mind. It uses
the rank, as ``rank_bsgs`` does, but folds once for every rank row, where ``rank_bsgs`` folds once in all.

Layout. As ``rank_bsgs``: the period p is a power of two, T = slots/p tokens are interleaved, feature f of token t
stands in slot f·T + t, x takes B = ⌈d_in/p⌉ ciphertexts and Δ takes B' = ⌈d_out/p⌉. For each rank row j:

1. y_j = Σ_b x_b ∘ down_{j,b}: blocks are added up first, without rotations.
2. Folds: for k = 1, 2, …, p/2:  y_j += rot(y_j, k). Rotations are cyclic, so z_j = ⟨down_j, x⟩ fills all p features.
   Where it pays, folds of larger radix take fewer steps (``folds``).
3. Δ_c = Σ_j z_j ∘ up_{c,j}, with α/r folded into ``up``.

Cost: with folds of radix 2, r·log2(p) rotations, one key switch each, with log2(p) rotation keys; r·(B+B') ct×pt;
r + B' rescales; B ciphertexts up and B' down; about r + B ciphertexts alive. A shorter period runs more tokens with
fewer folds, and takes more plaintexts: p is cut down until there would be more than ``MOST_PLAINTEXTS``.

Leakage: nothing beyond Δ, for sanitised results.

Source: the definition of LoRA (Hu et al., ICLR 2022); sums by folding as in Halevi and Shoup (CRYPTO 2014).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.packing import folds
from helora_core.packing.costs import OperationCosts
from helora_core.packing.interleaved import InterleavedLayout, InterleavedPacking, blocks, padded, periods
from helora_core.packing.protocol import ProgramBuilder, ScaleRole, Value, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


@dataclass(frozen=True)
class OuterProductLayout(InterleavedLayout):
    """``outer_product`` for one shape: the choices are the period and the radices of the folds."""

    fold_radices: tuple[int, ...]

    @property
    def figures(self) -> Mapping[str, int]:
        return {**super().figures, **folds.figure(self.fold_radices)}

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self.blocks_in)]
        z = [self._inner_product(builder, x, j) for j in range(self.shape.rank)]
        for block in range(self.blocks_out):
            terms = [builder.multiply_plain(z_j, f"up.{block}.{j}", ScaleRole.UP) for j, z_j in enumerate(z)]
            builder.output(builder.rescale(builder.sum(terms)), keep=self.wanted(block))

    def _inner_product(self, builder: ProgramBuilder, x: list[Value], j: int) -> Value:
        """z_j in every feature, rescaled before it is folded, since rotations are cheaper one level below."""
        terms = [builder.multiply_plain(x_b, f"down.{block}.{j}", ScaleRole.DOWN) for block, x_b in enumerate(x)]
        y = builder.rescale(builder.sum(terms))
        return folds.folded(builder, y, self.fold_radices, self.tokens_per_run, builder.rotate)

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        sides = (("down", module.down, self.blocks_in), ("up", module.scaled_up.T, self.blocks_out))
        for name, rows, count in sides:
            features = padded(rows, self.shape.rank, count * self.period)
            for block in range(count):
                for j in range(self.shape.rank):
                    vector = features[j, block * self.period : (block + 1) * self.period]
                    yield f"{name}.{block}.{j}", np.repeat(vector, self.tokens_per_run)


class OuterProduct(InterleavedPacking):
    """The strategy."""

    name = "outer_product"
    version = 1
    depth = 2
    leakage = Leakage(
        key_holder=LeakageClass.NOTHING,
        needs_sanitize=True,
        explanation="The key holder decrypts Δ alone; the inner products stay encrypted.",
    )

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[OuterProductLayout]:
        def plaintexts(period: int) -> int:
            return shape.rank * (blocks(shape.d_in, period) + blocks(shape.d_out, period))

        for period in periods(max(shape.d_in, shape.d_out), 1, slots, tokens, plaintexts=plaintexts):
            yield OuterProductLayout(shape, slots, period, folds.best_radices(period, costs))
