"""A packing that runs ahead of time, as small as it can be: a token a coefficient, a ciphertext a feature, sums of products
with the numbers of ``down`` and ``up``; and the plugin that registers it as anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.hookspecs import hookimpl
from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import Grid, ModulusUse, ProgramBuilder, ScaleRole, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass
from helora_core.specs import PackingSpec

GRID = Grid(x_bits=10, down_bits=9, up_bits=8)


def to_grid(matrix: Vector, bits: int) -> Vector:
    """The nearest multiples of 2^-bits."""
    return np.ldexp(np.rint(np.ldexp(matrix, bits)), -bits)


@dataclass(frozen=True)
class AheadLayout:
    """``ahead`` for one shape."""

    shape: ModuleShape
    tokens_per_run: int

    @property
    def figures(self) -> Mapping[str, int]:
        return {"tokens": self.tokens_per_run}

    def emit(self, builder: ProgramBuilder) -> None:
        r = [builder.random() for _ in range(self.shape.d_in)]
        z = [builder.dot_scalars(r, f"down.{j}", ScaleRole.DOWN) for j in range(self.shape.rank)]
        for o in range(self.shape.d_out):
            product = builder.rescale(builder.dot_scalars(z, f"up.{o}", ScaleRole.UP))
            builder.output(builder.mask(product, f"s.{o}"))

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        for j, row in enumerate(to_grid(module.down, GRID.down_bits)):
            yield f"down.{j}", row
        for o, row in enumerate(to_grid(module.scaled_up, GRID.up_bits)):
            yield f"up.{o}", row

    def factors(self, constants: Mapping[str, Vector]) -> Sequence[tuple[ScaleRole, Vector]]:
        down = np.stack([constants[f"down.{j}"] for j in range(self.shape.rank)])
        up = np.stack([constants[f"up.{o}"] for o in range(self.shape.d_out)])
        return (ScaleRole.DOWN, down), (ScaleRole.UP, up)

    def pack(self, x: Vector) -> list[Vector]:
        return list(x.T)

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        return np.stack([output[:tokens] for output in outputs], axis=1)


class Ahead:
    """The strategy."""

    name = "ahead"
    version = 1
    depth = 1
    rotates = False
    encoding = Encoding.COEFFICIENTS
    modulus_use = ModulusUse.CORRELATED
    client_finishes = False
    grid = GRID
    leakage = Leakage(
        key_holder=LeakageClass.NOTHING,
        needs_sanitize=True,
        explanation="The key holder reads W·r under a uniform mask, and Δ as an integer.",
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return 1

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[AheadLayout]:
        yield AheadLayout(shape, 2 * slots)


class Plugin:
    """What its distribution would register."""

    @hookimpl
    def helora_packings(self) -> Iterable[PackingSpec]:
        yield PackingSpec(name="ahead", target=f"{__name__}:Ahead", summary="Exact, ahead of time.")
