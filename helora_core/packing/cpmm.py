"""``cpmm``: one ciphertext per feature, a token in each place of it, weights as scalars. No rotations; for thousands of
tokens.

Why: with the features in separate ciphertexts, a matrix product is sums of ciphertexts times scalars. Nothing moves
between places, so there is neither a rotation nor a rotation key, and every place holds a token of its own. It takes
one ciphertext per feature whether there is one token or a full run, so it pays when the places are filled.

Layout. Token t of T stands in place t; ciphertext i holds feature i of every token. Places without a token are zero.
With α/r folded into ``up``:

1. z_j = Σ_i down[j, i]·x_i for each of the r rank rows,
2. Δ_o = Σ_j up[o, j]·z_j for each of the d_out features.

Each number of a row is a plaintext of its own, a constant polynomial that is encoded when it is used: its products cost
as much as others, but its rounding error has no factor sqrt(N).

Places are coefficients where those are exact, T = N, and slots elsewhere, T = N/2: a product with a number does the
same to both. In coefficients a ciphertext holds twice as many tokens, noise is that of one coefficient and not of the
N/2 that a slot adds up, and the client transforms nothing. z is divided by one prime and Δ by none: the primes that are
left hold z and the scale of ``up``.

Cost: 0 rotations, r·(d_in + d_out) products, d_in ciphertexts up and d_out down, for T tokens; r rescales in
coefficients, r + d_out in slots, none in slots that are sanitised. While z is computed, all d_in ciphertexts are alive.
Leakage: nothing beyond Δ, for sanitised results: every place is a token's, so there is none to hide.

Source: column packing of MOAI (Zhang et al., ePrint 2025/991), for plaintext weights. Coefficients are our addition.
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
    tokens_per_run: int
    rescales_results: bool

    @property
    def figures(self) -> Mapping[str, int]:
        shape = self.shape
        return {"tokens": self.tokens_per_run, "ciphertexts_up": shape.d_in, "ciphertexts_down": shape.d_out}

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self.shape.d_in)]
        z = [builder.rescale(builder.dot_scalars(x, f"down.{row}", ScaleRole.DOWN)) for row in range(self.shape.rank)]
        for row in range(self.shape.d_out):
            delta = builder.dot_scalars(z, f"up.{row}", ScaleRole.UP)
            builder.output(builder.rescale(delta) if self.rescales_results else delta)

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        for name, matrix in (("down", module.down), ("up", module.scaled_up)):
            for row, numbers in enumerate(matrix):
                yield f"{name}.{row}", numbers

    def pack(self, x: Vector) -> list[Vector]:
        return list(np.ascontiguousarray(x.T))

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        return np.stack([output[:tokens] for output in outputs], axis=1)


class CPMM:
    """The strategy, in slots unless coefficients are asked for."""

    name = "cpmm"
    version = 2
    rotates = False
    client_finishes = False
    leakage = Leakage(
        key_holder=LeakageClass.NOTHING,
        needs_sanitize=True,
        explanation="The key holder decrypts Δ alone, one feature a ciphertext.",
    )

    def __init__(self, encoding: Encoding = Encoding.SLOTS) -> None:
        self.encoding = encoding
        self.depth = 2 if encoding is Encoding.SLOTS else 1
        self.modulus_use = ModulusUse.LEVELS if encoding is Encoding.SLOTS else ModulusUse.DIVIDED

    @property
    def in_coefficients(self) -> CPMM:
        return CPMM(Encoding.COEFFICIENTS)

    def min_slots(self, shape: ModuleShape) -> int:
        return 1

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[CPMMLayout]:
        in_slots = self.encoding is Encoding.SLOTS
        yield CPMMLayout(shape, slots if in_slots else 2 * slots, in_slots)
