"""A packing that runs ahead of time, as small as it can be: a token a coefficient, a ciphertext a feature, sums of
products with the numbers of ``down`` and ``up``; and the plugin that registers it as anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.exponents import normalized_tokens
from helora_core.hookspecs import hookimpl
from helora_core.host.loading import find_entry_points
from helora_core.host.manager import PluginManager
from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import Grid, ModulusUse, ProgramBuilder, ScaleRole, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass
from helora_core.specs import PackingSpec

GRID = Grid(x_bits=10, down_bits=9, up_bits=8)


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


@hookimpl
def helora_packings() -> Iterable[PackingSpec]:
    """What its distribution registers."""
    yield PackingSpec(name="ahead", target=f"{__name__}:Ahead", summary="Exact integers, prepared ahead of time.")


MANAGER = PluginManager.discover(
    [*find_entry_points()[0], EntryPoint(name="ahead", value=__name__, group="helora")], environ={}
)
"""What is installed, and this plugin."""


def prepared_module(name: str, seed: int, shape: ModuleShape, **options: Any) -> CompiledModule:
    """A synthetic module with its plan."""
    module = synthetic_module(shape, seed=seed, name=name)
    plan = compile_plan(shape, MANAGER.load_packing("ahead"), module=module, precision_bits=0.5, **options)
    return CompiledModule(module, (Part(name=name, d_out=shape.d_out),), plan)


def integer_delta(compiled: CompiledModule, x: Vector) -> Vector:
    """The LoRA in integers, as anybody would write it: x and weights on the grid, no weight rounded to zero."""
    assert isinstance(compiled.module, LoRAModule)
    module = compiled.plan.normalized(compiled.module)
    scaled, exponents = normalized_tokens(x)
    z = np.rint(np.ldexp(scaled, GRID.x_bits)).astype(np.int64) @ _integers(module.down, GRID.down_bits).T
    delta = z @ _integers(module.scaled_up, GRID.up_bits).T
    return np.ldexp(delta.astype(np.float64), exponents[:, np.newaxis] + (compiled.plan.exponent or 0) - GRID.bits)


def _integers(weights: Vector, bits: int) -> NDArray[np.int64]:
    rounded = np.rint(np.ldexp(weights, bits))
    integers: NDArray[np.int64] = np.where(rounded == 0, np.sign(weights), rounded).astype(np.int64)
    return integers
