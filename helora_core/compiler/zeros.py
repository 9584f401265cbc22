"""Where a module's plaintexts are zero, so that the compiler can leave out the products with them."""

from __future__ import annotations

import hashlib

import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.passes.skip_zeros import Support
from helora_core.packing.protocol import Layout


def support_of(program: Program, layout: Layout, module: LoRAModule) -> Support:
    """The plaintexts that are zero throughout, and the zeros among the numbers that a program multiplies by."""
    if not has_zeros(module):
        return {}
    if not (module.down.any() and module.scaled_up.any()):
        # If the client applies ``up``, no plaintext shows that Δ is zero.
        return {name: () for name, _ in layout.constants(module)}
    numbers = {op.constant for op in program.ops if op.kind is OpKind.DOT_SCALARS}
    support: dict[str, tuple[int, ...]] = {}
    for name, vector in layout.constants(module):
        places = np.flatnonzero(vector)
        if places.size == 0 or (name in numbers and places.size < vector.size):
            support[name] = tuple(places.tolist())
    return support


def has_zeros(module: LoRAModule) -> bool:
    """Whether any weight is exactly zero; usually not in a trained dense module."""
    return not (module.down.all() and module.scaled_up.all())


def zero_pattern(module: LoRAModule) -> bytes:
    """32 bytes, equal for modules of one shape with zeros in the same places; empty if there are no zeros."""
    if not has_zeros(module):
        return b""
    nonzero = (np.packbits(module.down != 0).tobytes(), np.packbits(module.scaled_up != 0).tobytes())
    return hashlib.sha256(b"|".join(nonzero)).digest()
