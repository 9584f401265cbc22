"""``rank_bsgs``: hybrid diagonals for ``down``, folds, then baby-step giant-step for ``up``. The default.

Why: a LoRA has rank r far below its dimensions, and rotations are dear. Halevi-Shoup diagonals of the merged d×d
matrix cost about 2·sqrt(d) rotations; going through the rank costs about 4·sqrt(r) + log2(d/r), exactly, and without
showing the key holder anything but Δ.

Layout. d₂ and r₂ are the powers of two at or above max(d_in, d_out, r) and r. T = slots/d₂ tokens are interleaved:
feature f of token t stands in slot f·T + t. A rotation by k features is one by k·T slots, and cyclic in the features,
so all T tokens share it. Below, m and i count features; D is ``down`` padded to r₂×d₂, U is (α/r)·``up`` padded to
d₂×r₂.

1. y = Σ_{i<r₂} diag_i ∘ rot(x, i),  diag_i[m] = D[m mod r₂, (m+i) mod d₂].
2. Folds: for k = r₂, 2r₂, …, d₂/2:  y += rot(y, k). Then y[m] = z[m mod r₂] with z = down·x: replicated for free.
3. Δ = Σ_{i<r₂} diag'_i ∘ rot(y, i),  diag'_i[m] = U[m, (m+i) mod r₂].

Sums 1 and 3 are baby-step giant-step: i = g·n₁ + b, the diagonal is rotated back by g·n₁ beforehand, and each giant
step rotates a whole inner sum: Σ_g rot(Σ_b rot(diag, −g·n₁) ∘ rot(x, b), g·n₁).

Cost: 2·((n₁−1) + (r₂/n₁−1)) + log2(d₂/r₂) rotations, one key switch each; 2·r₂ ct×pt; 2 rescales; one ciphertext each
way. Leakage: nothing beyond Δ, for sanitised results.

Source: diagonals after Halevi and Shoup (CRYPTO 2014) and GAZELLE's hybrid method (USENIX Security 2018), baby and
giant steps after Halevi and Shoup (CRYPTO 2018), applied to both factors of a LoRA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.errors import SlotOverflow
from helora_core.packing.protocol import ProgramBuilder, ScaleRole, Value, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


def _power_of_two_at_or_above(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _padded(matrix: Vector, rows: int, columns: int) -> Vector:
    return np.pad(matrix, ((0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])))


@dataclass(frozen=True)
class RankBSGSLayout:
    """``rank_bsgs`` for one shape: ``period`` is d₂, ``padded_rank`` r₂, ``baby_steps`` n₁."""

    shape: ModuleShape
    slots: int
    period: int
    padded_rank: int
    baby_steps: int

    @property
    def tokens_per_run(self) -> int:
        return self.slots // self.period

    @property
    def figures(self) -> Mapping[str, int]:
        return {
            "period": self.period,
            "padded_rank": self.padded_rank,
            "baby_steps": self.baby_steps,
            "giant_steps": self.padded_rank // self.baby_steps,
        }

    def emit(self, builder: ProgramBuilder) -> None:
        y = builder.rescale(self._diagonal_sum(builder, builder.input(), "down", ScaleRole.DOWN))
        fold = self.padded_rank
        while fold < self.period:
            y = builder.add(y, self._rotate(builder, y, fold))
            fold *= 2
        builder.output(builder.rescale(self._diagonal_sum(builder, y, "up", ScaleRole.UP)))

    def _rotate(self, builder: ProgramBuilder, value: Value, features: int) -> Value:
        return builder.rotate(value, features * self.tokens_per_run)

    def _diagonal_sum(self, builder: ProgramBuilder, x: Value, prefix: str, role: ScaleRole) -> Value:
        babies = [self._rotate(builder, x, baby) for baby in range(self.baby_steps)]
        giants = []
        for giant in range(0, self.padded_rank, self.baby_steps):
            terms = [
                builder.multiply_plain(babies[baby], f"{prefix}.{giant + baby}", role)
                for baby in range(self.baby_steps)
            ]
            giants.append(self._rotate(builder, builder.sum(terms), giant))
        return builder.sum(giants)

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        features = np.arange(self.period)
        down = _padded(module.down, self.padded_rank, self.period)
        up = _padded(module.scaled_up, self.period, self.padded_rank)
        for i in range(self.padded_rank):
            yield f"down.{i}", self._constant(down[features % self.padded_rank, (features + i) % self.period], i)
        for i in range(self.padded_rank):
            yield f"up.{i}", self._constant(up[features, (features + i) % self.padded_rank], i)

    def _constant(self, diagonal: Vector, i: int) -> Vector:
        """The i-th diagonal, rotated back by its giant step and repeated for every interleaved token."""
        giant = i - i % self.baby_steps
        return np.repeat(np.roll(diagonal, giant), self.tokens_per_run)

    def pack(self, x: Vector) -> list[Vector]:
        interleaved = np.zeros((self.period, self.tokens_per_run))
        interleaved[: self.shape.d_in, : x.shape[0]] = x.T
        return [interleaved.ravel()]

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        (output,) = outputs
        delta: Vector = output.reshape(self.period, self.tokens_per_run)[: self.shape.d_out, :tokens].T.copy()
        return delta


class RankBSGS:
    """The strategy."""

    name = "rank_bsgs"
    version = 1
    depth = 2
    rotates = True
    client_finishes = False
    leakage = Leakage(
        key_holder=LeakageClass.NOTHING,
        needs_sanitize=True,
        explanation="The key holder decrypts Δ alone.",
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return _power_of_two_at_or_above(max(shape.d_in, shape.d_out, shape.rank))

    def layout(self, shape: ModuleShape, slots: int) -> RankBSGSLayout:
        period = self.min_slots(shape)
        if period > slots:
            raise SlotOverflow(
                f"Packing {self.name}: module {shape} needs {period} slots, and there are {slots}.",
                hint=f"Use a ring degree of at least {2 * period}.",
            )
        padded_rank = _power_of_two_at_or_above(shape.rank)
        # The even split minimises rotations; of two equal ones, more baby steps: they share a source ciphertext.
        baby_steps = 1 << (padded_rank.bit_length() // 2)
        return RankBSGSLayout(shape, slots, period, padded_rank, baby_steps)
