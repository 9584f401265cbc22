"""``zero_moai``: replicate, multiply, and let the client sum after decryption. No rotations, but the weights leak.

Why it is here: the published zero-rotation figures (TenSafe's) really use this packing, so comparisons need it, and
it is the cheapest one where the holder of the key owns the adapter anyway.

Layout. c copies of the x of each of T tokens stand one after the other, d_in slots each. Ciphertext j returns
x_i·down[j·c + k, i] in the slot of copy k and feature i, for k < c. After decryption the client adds up each copy,
which gives z = down·x, and applies (α/r)·``up`` in the clear. A d_in larger than the number of slots is cut into
B = ⌈d_in/slots⌉ blocks, whose products are added up.

Cost: 0 rotations, B·⌈r/c⌉ ct×pt, ⌈r/c⌉ rescales, B ciphertexts up and ⌈r/c⌉ down, for ⌊slots/(c·d_in)⌋ tokens a run.

Leakage: the client reads every product x_i·down[j, i], and so all of ``down`` from one query (with blocks, from B of
them), and has to be given ``up``. Safe only if the key holder and the adapter's owner are the same party.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.errors import LeakageRefused
from helora_core.packing.costs import OperationCosts
from helora_core.packing.interleaved import blocks, padded
from helora_core.packing.protocol import ModulusUse, ProgramBuilder, ScaleRole, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


@dataclass(frozen=True)
class ZeroMOAILayout:
    """``zero_moai`` for one shape; ``copies`` is c, ``width`` the number of features in a block."""

    shape: ModuleShape
    slots: int
    width: int
    copies: int
    tokens_per_run: int

    @property
    def figures(self) -> Mapping[str, int]:
        return {"copies": self.copies, "blocks": self._blocks, "ciphertexts_down": self._ciphertexts_down}

    @property
    def _blocks(self) -> int:
        return blocks(self.shape.d_in, self.width)

    @property
    def _ciphertexts_down(self) -> int:
        return blocks(self.shape.rank, self.copies)

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self._blocks)]
        for j in range(self._ciphertexts_down):
            terms = [builder.multiply_plain(block, f"down.{b}.{j}", ScaleRole.DOWN) for b, block in enumerate(x)]
            builder.output(builder.rescale(builder.sum(terms)))

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        down = padded(module.down, self._ciphertexts_down * self.copies, self._blocks * self.width)
        for b in range(self._blocks):
            for j in range(self._ciphertexts_down):
                rows = down[j * self.copies : (j + 1) * self.copies, b * self.width : (b + 1) * self.width]
                yield f"down.{b}.{j}", np.tile(rows.ravel(), self.tokens_per_run)

    def pack(self, x: Vector) -> list[Vector]:
        features = padded(x, x.shape[0], self._blocks * self.width).reshape(x.shape[0], self._blocks, self.width)
        return [np.repeat(features[:, b], self.copies, axis=0).ravel() for b in range(self._blocks)]

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        if client_module is None:
            raise LeakageRefused(
                "Packing zero_moai: the client must finish the sum with the adapter in the clear and was not given it.",
                hint="Give the client the adapter if it owns it; otherwise use rank_bsgs.",
            )
        used = tokens * self.copies * self.width
        sums = [output[:used].reshape(tokens, self.copies, self.width).sum(axis=2) for output in outputs]
        z = np.concatenate(sums, axis=1)[:, : self.shape.rank]
        delta: Vector = z @ client_module.scaled_up.T
        return delta


class ZeroMOAI:
    """The strategy."""

    name = "zero_moai"
    version = 2
    depth = 1
    rotates = False
    encoding = Encoding.SLOTS
    modulus_use = ModulusUse.LEVELS
    client_finishes = True
    leakage = Leakage(
        key_holder=LeakageClass.PRODUCTS,
        needs_sanitize=False,
        explanation="The key holder reads each product of an activation and a weight, hence all of down, and owns up.",
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return 1

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[ZeroMOAILayout]:
        width = min(shape.d_in, slots)
        # More copies than the rank has rows would waste slots that could hold further tokens.
        copies = min(slots // width, shape.rank)
        room = slots // width
        yield ZeroMOAILayout(shape, slots, width, copies, min(room // copies, tokens or 1))
        while tokens is not None and copies > 1 and room // copies < tokens:
            copies = -(-copies // 2)
            yield ZeroMOAILayout(shape, slots, width, copies, min(room // copies, tokens))
