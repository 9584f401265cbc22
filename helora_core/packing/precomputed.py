"""``precomputed`` and ``precomputed_exact``: the encrypted work is done before x exists, on random numbers.

Why: all that the server does is linear. It can be done ahead of time, in large batches, and what is left once x is
there is integer arithmetic on one-time-padded values: one round trip, no ciphertext, a few kilobytes.

Layout. One ciphertext a feature, one token a coefficient: a batch makes correlations for N tokens. With r uniform
modulo t = 2^64 and W'' = U''·D'' the LoRA in integers,

    offline   client  ⟦r_i⟧, i < d_in                          server  ⟦c_o⟧ = Σ_j U''_oj · Σ_i D''_ji · ⟦r_i⟧ − s_o
    online    client  y = x'' − r mod t                        server  v = U''(D''·y) + s mod t
              client  Δ'' = v + c mod t, as a signed number

Ciphertexts are modulo t·q₁, with messages times q₁, the product of the data primes. The server re-randomises its
results with the client's public key and divides them by q₁ before it subtracts the masks: neither products of
ciphertexts nor number-theoretic transforms of the d_in uploads are needed.

Exactness. x, ``down`` and ``up`` are integers on a grid whose bits sum to 62, so that |Δ''| < 2^63
(``helora_core.compiler.grid``). ``precomputed`` drops the low bits of results that the grid makes meaningless anyway:
Δ'' is right to 2^(f+1). ``precomputed_exact`` floods, and the client rounds: Δ'' is exactly the LoRA in integers.

Cost a batch of N tokens: d_in·r + r·d_out products with numbers, none of them of polynomials; d_out re-randomisations;
d_in ciphertexts up, d_out down. Online, a token: r·(d_in + d_out) multiplications of words; 8·d_in bytes up.

Leakage. y is uniform whatever x is, and v whatever W is. The client reads Δ alone; what the division leaves of the
ciphertexts' noise is hidden statistically, to a distance that the plan states, provided its public key was made as it
should be: a forged key undoes the re-randomisation (``Assumption.HONEST_KEYS``). Each query answers about an input that
the client chooses freely modulo t: ``Plan.bits_per_query`` says how much of ``down`` one shows.

Source: MiniONN (Liu, Juuti, Lu, Asokan; CCS 2017), GAZELLE (Juvekar, Vaikuntanathan, Chandrakasan; USENIX Security
2018) and DELPHI (Mishra, Lehmkuhl, Srinivasan, Zheng, Popa; USENIX Security 2020) prepare the linear layers of networks
in this way. A modulus with a machine word in it, and a division that hides the noise, are our choice for adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import ModulusUse, ProgramBuilder, ScaleRole, Vector
from helora_core.privacy.leakage import Assumption, Leakage, LeakageClass


@dataclass(frozen=True)
class PrecomputedLayout:
    """Either packing for one shape."""

    shape: ModuleShape
    tokens_per_run: int

    @property
    def figures(self) -> Mapping[str, int]:
        return {"tokens": self.tokens_per_run}

    def emit(self, builder: ProgramBuilder) -> None:
        r = [builder.random() for _ in range(self.shape.d_in)]
        z = [builder.dot_scalars(r, f"down.{j}", ScaleRole.DOWN) for j in range(self.shape.rank)]
        for o in range(self.shape.d_out):
            builder.output(builder.correlate(builder.dot_scalars(z, f"up.{o}", ScaleRole.UP), f"mask.{o}"))

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        for j, row in enumerate(module.down):
            yield f"down.{j}", row
        for o, row in enumerate(module.scaled_up):
            yield f"up.{o}", row

    def factors(self, constants: Mapping[str, Vector]) -> Sequence[tuple[ScaleRole, Vector]]:
        down = np.stack([constants[f"down.{j}"] for j in range(self.shape.rank)])
        up = np.stack([constants[f"up.{o}"] for o in range(self.shape.d_out)])
        return (ScaleRole.DOWN, down), (ScaleRole.UP, up)

    def pack(self, x: Vector) -> list[Vector]:
        return list(x.T)

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        return np.stack([output[:tokens] for output in outputs], axis=1)


class Precomputed:
    """The strategy.

    Args:
        exact: Whether Δ is exactly the LoRA in integers.
    """

    version = 1
    depth = 2
    rotates = False
    encoding = Encoding.COEFFICIENTS
    modulus_use = ModulusUse.CORRELATED
    client_finishes = False

    def __init__(self, *, exact: bool = False) -> None:
        self.exact = exact
        self.name = "precomputed_exact" if exact else "precomputed"
        self.leakage = Leakage(
            key_holder=LeakageClass.NOTHING,
            needs_sanitize=False,
            explanation=(
                "The key holder reads Δ, rounded to a grid, under masks that each serve once; "
                + ("a flood hides the noise." if exact else "dropped low bits hide the noise.")
            ),
            assumes=(Assumption.HONEST_KEYS,),
        )

    def min_slots(self, shape: ModuleShape) -> int:
        return 1

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[PrecomputedLayout]:
        yield PrecomputedLayout(shape, 2 * slots)


def exact() -> Precomputed:
    """``precomputed_exact``."""
    return Precomputed(exact=True)
