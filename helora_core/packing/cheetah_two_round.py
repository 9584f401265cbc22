"""``cheetah_two_round``: the client gets z under a mask and encrypts it again, and the server applies ``up`` to it.

Why: two products of coefficient packings do not compose under encryption, since the numbers of z stand far apart and
only key switches could bring them together. The client can move them at no cost, provided a mask hides their values
from it: a second round trip takes the place of all rotations.

Layout. Round one is ``cheetah``: J ciphertexts that hold z = down·x among partial convolutions. Each is rescaled by the
upper prime q, re-randomised, and masked on *all* coefficients with integers ρ uniform modulo the lower primes, Q'
together. The client decrypts m = (z + e + ρ) mod Q', picks the T·r coefficients of z, and encrypts them as the x of a
second ``cheetah``, for U = (α/r)·``up`` with w = r and as many rows as N holds. The server subtracts ρ and multiplies.

Exactness. m is an integer, and not z + e + ρ, but smaller by a multiple of Q' that the server does not know. The
client encrypts the integers q·m modulo Q = Q'·q, exactly. Modulo Q,

    q·m = q·(z + e + ρ),

since q·Q' vanishes. The server subtracts q·ρ modulo Q, also exactly, and multiplies by integers U'' = round(2^b·U).
That leaves q·U''·(z + e), which must be less than Q/2, plus the fresh noise times U'', which is far below q.

Cost: 0 rotations; B·J products with ``down`` as in ``cheetah``, and J' = ⌈d_out/⌊N/(T·r)⌋⌉ with ``up``; J rescales; J
masks; B + 1 ciphertexts up and J + J' down, in two round trips, for T tokens.

Leakage: m is uniform whatever z and the noise are: it hides them perfectly, unlike a mask that is merely large. From
the last round's results the client is meant to read Δ. Their other coefficients give ``up`` away, and their noise
depends on it, including e, which comes back as up·e: sanitised plans mask the former and flood the latter.

Source: Cheetah (Huang, Lu, Hong, Ding; USENIX Security 2022) for the products, and GAZELLE (USENIX Security 2018) for a
server that lets the client re-encrypt additive shares. The exact second round under CKKS is our addition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.errors import SlotOverflow
from helora_core.packing.cheetah import MOST_COEFFICIENTS, InnerProducts, splits
from helora_core.packing.costs import OperationCosts
from helora_core.packing.interleaved import blocks
from helora_core.packing.protocol import ModulusUse, ProgramBuilder, ScaleRole, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


@dataclass(frozen=True)
class CheetahTwoRoundLayout:
    """``cheetah_two_round`` for one shape: how both products are split."""

    shape: ModuleShape
    down: InnerProducts
    up: InnerProducts

    @property
    def tokens_per_run(self) -> int:
        return self.down.tokens

    @property
    def figures(self) -> Mapping[str, int]:
        return {
            "width": self.down.width,
            "blocks": self.down.blocks,
            "rows": self.down.rows,
            "masked_ciphertexts": self.down.groups,
            "rows_out": self.up.rows,
            "blocks_out": self.up.groups,
        }

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self.down.blocks)]
        names = tuple(f"mask.{j}" for j in range(self.down.groups))
        z = [builder.rescale(product) for product in self.down.emit(builder, x)]
        masked = [builder.mask(value, name) for value, name in zip(z, names, strict=True)]
        answer = builder.unmask(builder.ask_client(masked), names)
        for j, delta in enumerate(self.up.emit(builder, [answer])):
            builder.output(delta, keep=self.up.wanted(j))

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        yield from self.down.constants(module.down)
        yield from self.up.constants(module.scaled_up)

    def pack(self, x: Vector) -> list[Vector]:
        return self.down.pack(x)

    def answer(self, received: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
        (packed,) = self.up.pack(self.down.unpack(received))
        return packed

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        delta: Vector = self.up.unpack(outputs)[:tokens]
        return delta


class CheetahTwoRound:
    """The strategy."""

    name = "cheetah_two_round"
    version = 1
    depth = 1
    rotates = False
    encoding = Encoding.COEFFICIENTS
    modulus_use = ModulusUse.MASKED
    client_finishes = False
    leakage = Leakage(
        key_holder=LeakageClass.MASKED_Z,
        needs_sanitize=True,
        explanation=(
            "The key holder decrypts z under a uniform mask, which hides it perfectly, and then Δ; the last round's "
            "noise and other coefficients depend on up."
        ),
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return -(-shape.rank // 2)

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[CheetahTwoRoundLayout]:
        ring_degree = 2 * slots
        if shape.rank > ring_degree:
            raise SlotOverflow(
                f"Packing {self.name}: module {shape} needs {shape.rank} coefficients for its rank, and there are "
                f"{ring_degree}.",
                hint=f"Use a ring degree of at least {1 << (shape.rank - 1).bit_length()}.",
            )
        most = min(tokens or 1, ring_degree // shape.rank)
        together = sorted({min(1 << exponent, most) for exponent in range(most.bit_length() + 1)})
        candidates = [layout for per_run in together for layout in _candidates(shape, ring_degree, per_run)]
        sent = min(candidates, key=lambda layout: _cost(layout, tokens or 1, costs, costs.decrypt))
        flooded = min(candidates, key=lambda layout: _cost(layout, tokens or 1, costs, costs.decrypt + costs.sanitize))
        yield sent
        if flooded != sent:
            yield flooded


def _candidates(shape: ModuleShape, ring_degree: int, tokens: int) -> Iterator[CheetahTwoRoundLayout]:
    groups = blocks(shape.d_out, ring_degree // (shape.rank * tokens))
    rows = blocks(shape.d_out, groups)
    up = InnerProducts(ScaleRole.UP, shape.d_out, shape.rank, shape.rank, rows, tokens)
    for down in splits(shape.rank, shape.d_in, ring_degree, tokens):
        if tokens == 1 or (down.blocks * down.groups + up.groups) * ring_degree <= MOST_COEFFICIENTS:
            yield CheetahTwoRoundLayout(shape, down, up)


def _cost(layout: CheetahTwoRoundLayout, tokens: int, costs: OperationCosts, for_each_result: float) -> float:
    """The cost of all runs; ``for_each_result`` is that of sending back one ciphertext of Δ, sanitised or not."""
    down, up = layout.down, layout.up
    work = (down.blocks * down.groups + up.groups) * (costs.multiply_plain + costs.add)
    there = (down.blocks + 1) * costs.encrypt + 2 * costs.round_trip
    back = down.groups * (costs.rescale + costs.sanitize + costs.decrypt) + up.groups * for_each_result
    return blocks(tokens, layout.tokens_per_run) * (work + there + back)
