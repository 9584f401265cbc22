"""``cpmm``: one ciphertext per feature, tokens in the slots, weights as scalars. No rotations; for thousands of tokens.

Why: with the features in separate ciphertexts, a matrix product is sums of ciphertexts times scalars. Nothing moves
between slots, so there is neither a rotation nor a rotation key, and every slot holds a token of its own. It takes one
ciphertext per feature whether there is one token or a full run, so it pays when the slots are filled.

Layout. Token t of T = slots stands in slot t; ciphertext i holds feature i of every token. Slots without a token are
zero. With α/r folded into ``up``:

1. z_j = Σ_i down[j, i]·x_i for each of the r rank rows,
2. Δ_o = Σ_j up[o, j]·z_j for each of the d_out features.

Each number of a row is a plaintext of its own, a constant polynomial that is encoded when it is used: its products cost
as much as others, but its rounding error has no factor sqrt(N).

Cost: 0 rotations, r·(d_in + d_out) products, r + d_out rescales, d_in ciphertexts up and d_out down, for T tokens.
While z is computed, all d_in ciphertexts are alive. Leakage: nothing beyond Δ, for sanitised results.

Source: column packing of MOAI (Zhang et al., ePrint 2025/991), for plaintext weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import ModulusUse, ProgramBuilder, ScaleRole, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


@dataclass(frozen=True)
class CPMMLayout:
    """``cpmm`` for one shape."""

    shape: ModuleShape
    slots: int

    @property
    def tokens_per_run(self) -> int:
        return self.slots

    @property
    def figures(self) -> Mapping[str, int]:
        return {"ciphertexts_up": self.shape.d_in, "ciphertexts_down": self.shape.d_out}

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self.shape.d_in)]
        z = [builder.rescale(builder.dot_scalars(x, f"down.{row}", ScaleRole.DOWN)) for row in range(self.shape.rank)]
        for row in range(self.shape.d_out):
            builder.output(builder.rescale(builder.dot_scalars(z, f"up.{row}", ScaleRole.UP)))

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        for name, matrix in (("down", module.down), ("up", module.scaled_up)):
            for row, numbers in enumerate(matrix):
                yield f"{name}.{row}", numbers

    def pack(self, x: Vector) -> list[Vector]:
        return list(np.ascontiguousarray(x.T))

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        return np.stack([output[:tokens] for output in outputs], axis=1)


class CPMM:
    """The strategy."""

    name = "cpmm"
    version = 1
    depth = 2
    rotates = False
    encoding = Encoding.SLOTS
    modulus_use = ModulusUse.LEVELS
    client_finishes = False
    leakage = Leakage(
        key_holder=LeakageClass.NOTHING,
        needs_sanitize=True,
        explanation="The key holder decrypts Δ alone, one feature a ciphertext.",
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return 1

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[CPMMLayout]:
        yield CPMMLayout(shape, slots)
