"""``zero_moai``: replicate, multiply, and let the client sum after decryption. No rotations, and no secrets.

Why it is here: it is the packing that published zero-rotation figures (TenSafe's) really use, so comparisons need it,
and it is the cheapest one where the holder of the key owns the adapter anyway.

Layout. c = ⌊slots/d_in⌋ copies of one token's x stand one after the other. Ciphertext j returns x_i·down[j·c + k, i] in
slot k·d_in + i, for k < c. After decryption the client adds up each copy, which gives z = down·x, and applies
(α/r)·``up`` in the clear.

Cost: 0 rotations, ⌈r/c⌉ ct×pt and rescales, one ciphertext up and ⌈r/c⌉ down, one token a run.

Leakage: the client reads every product x_i·down[j, i], hence all of ``down`` from one query, and has to be given
``up``. Sound only if key holder and adapter owner are the same party.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.errors import LeakageRefused, SlotOverflow
from helora_core.packing.protocol import ProgramBuilder, ScaleRole, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass


@dataclass(frozen=True)
class ZeroMOAILayout:
    """``zero_moai`` for one shape: ``copies`` is c."""

    shape: ModuleShape
    slots: int
    copies: int

    @property
    def tokens_per_run(self) -> int:
        return 1

    @property
    def figures(self) -> Mapping[str, int]:
        return {"copies": self.copies, "ciphertexts_down": self._ciphertexts_down}

    @property
    def _ciphertexts_down(self) -> int:
        return -(-self.shape.rank // self.copies)

    def emit(self, builder: ProgramBuilder) -> None:
        x = builder.input()
        for j in range(self._ciphertexts_down):
            builder.output(builder.rescale(builder.multiply_plain(x, f"down.{j}", ScaleRole.DOWN)))

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        for j in range(self._ciphertexts_down):
            yield f"down.{j}", module.down[j * self.copies : (j + 1) * self.copies].ravel()

    def pack(self, x: Vector) -> list[Vector]:
        return [np.tile(x[0], self.copies)]

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        if client_module is None:
            raise LeakageRefused(
                "Packing zero_moai: the client must finish the sum with the adapter in the clear and was not given it.",
                hint="Give the client the adapter if it owns it; otherwise use rank_bsgs.",
            )
        used = self.copies * self.shape.d_in
        rows = np.concatenate([output[:used].reshape(self.copies, self.shape.d_in) for output in outputs])
        z = rows[: self.shape.rank].sum(axis=1)
        delta: Vector = client_module.scaled_up @ z
        return delta[np.newaxis, :]


class ZeroMOAI:
    """The strategy."""

    name = "zero_moai"
    version = 1
    depth = 1
    rotates = False
    client_finishes = True
    leakage = Leakage(
        key_holder=LeakageClass.PRODUCTS,
        needs_sanitize=False,
        explanation="The key holder reads each product of an activation and a weight, hence all of down, and owns up.",
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return shape.d_in

    def layout(self, shape: ModuleShape, slots: int) -> ZeroMOAILayout:
        if shape.d_in > slots:
            raise SlotOverflow(
                f"Packing {self.name}: one token of module {shape} needs {shape.d_in} slots, and there are {slots}.",
                hint=f"Use a ring degree of at least {2 << (shape.d_in - 1).bit_length()}.",
            )
        # More copies than the rank has rows would be slots spent on nothing.
        return ZeroMOAILayout(shape, slots, min(slots // shape.d_in, shape.rank))
