"""A module's weights as the plaintexts of a plan: encoded once, as far as a byte budget goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Plaintext
from helora_core.backend.session import ServerSession
from helora_core.compiler.magnitudes import Magnitudes
from helora_core.compiler.plan import ConstantSpec, Plan
from helora_core.errors import InvalidInput
from helora_core.packing.protocol import Vector

DEFAULT_BYTE_BUDGET = 4 << 30
"""Bytes of encoded plaintexts to keep: 4 GiB."""

_RESIDUE_BYTES = 8


class StoredModule(Protocol):
    """A module whose plaintexts were made before, and whose matrices are not here."""

    @property
    def name(self) -> str:
        """The module's name."""
        ...

    @property
    def shape(self) -> ModuleShape:
        """The module's shape."""
        ...

    @property
    def magnitudes(self) -> Magnitudes:
        """How large its weights are."""
        ...

    def vectors(self, plan: Plan) -> Iterator[tuple[str, Vector]]:
        """What ``plan.layout.constants`` gave for the module when they were made."""
        ...


Weights: TypeAlias = LoRAModule | StoredModule
"""What a server computes with: an adapter's module, or the plaintexts that were made of one."""


class EncodedConstants:
    """Plaintexts by name. Those over the byte budget are kept as numbers and encoded each time they are used.

    Attributes:
        server: The session that they are encoded for.
        bytes_held: Bytes of the plaintexts that are kept encoded.
        over_budget: How many are not.
        flood_bits: For each ``SANITIZE`` of the program, how large its flood is for weights of this size.
    """

    def __init__(
        self, server: ServerSession, specs: dict[str, ConstantSpec], byte_budget: int, flood_bits: Mapping[int, int]
    ) -> None:
        self.server = server
        self.flood_bits = flood_bits
        self.bytes_held = 0
        self.over_budget = 0
        self._specs = specs
        self._byte_budget = byte_budget
        self._encoded: dict[str, Plaintext] = {}
        self._numbers: dict[str, Vector] = {}
        self._integers: dict[str, NDArray[np.int64]] = {}

    def put(self, name: str, vector: Vector) -> None:
        """Keep a plaintext, encoded if the budget allows."""
        spec = self._specs[name]
        size = plaintext_bytes(spec, self.server.params.ring_degree)
        if spec.grid_bits is not None:
            self._integers[name] = np.rint(np.ldexp(vector, spec.grid_bits)).astype(np.int64)
            if not self._integers[name].any():
                # No library multiplies by zero, and another polynomial put in its place would be none of the grid.
                self._integers[name][0] = 1
            vector = np.ldexp(self._integers[name].astype(np.float64), -spec.grid_bits)
        if spec.encoding is Encoding.SCALAR:
            # A scalar's plaintext is as large as any: a matrix of them would fill the memory.
            self._numbers[name] = vector
        elif self.bytes_held + size > self._byte_budget:
            self._numbers[name] = vector
            self.over_budget += 1
        else:
            self._encoded[name] = self._encode(vector, spec)
            self.bytes_held += size

    def plaintext(self, name: str) -> Plaintext:
        """The plaintext of this name."""
        kept = self._encoded.get(name)
        return self._encode(self._numbers[name], self._specs[name]) if kept is None else kept

    def integers(self, name: str) -> NDArray[np.int64]:
        """The plaintext of this name as integers on its grid, if its spec has one."""
        return self._integers[name]

    def scalar(self, name: str, position: int) -> Plaintext:
        """The plaintext of one number of a vector."""
        return self._encode(self._numbers[name][position : position + 1], self._specs[name])

    def _encode(self, vector: Vector, spec: ConstantSpec) -> Plaintext:
        return self.server.encode(vector, level=spec.level, scale_bits=spec.scale_bits, encoding=spec.encoding)


def plaintext_bytes(spec: ConstantSpec, ring_degree: int) -> int:
    """Bytes of one encoded plaintext: a residue of 8 bytes for each coefficient and prime."""
    return 0 if spec.encoding is Encoding.SCALAR else _RESIDUE_BYTES * ring_degree * (spec.level + 1)


def encode_constants(
    plan: Plan,
    module: Weights,
    server: ServerSession,
    *,
    byte_budget: int = DEFAULT_BYTE_BUDGET,
    on_constant: Callable[[int], object] = lambda count: None,
) -> EncodedConstants:
    """Encode the module's weights as the plan's plaintexts, once for all tokens.

    Args:
        plan: The plan.
        module: A module of the plan's shape.
        server: Where they are used.
        byte_budget: Bytes of plaintexts to keep encoded; the rest is encoded at each use.
        on_constant: Called with 1 for each plaintext made, for progress bars.

    Raises:
        InvalidInput: The module has another shape than the plan.
    """
    if module.shape != plan.shape:
        raise InvalidInput(
            f"Module {module.name} has shape {module.shape}; the plan is for {plan.shape}.",
            hint="Compile a plan for this module's shape.",
        )
    encoded = EncodedConstants(server, plan.constant_specs, byte_budget, _flood_bits(plan, module, server))
    made = plan.layout.constants(module) if isinstance(module, LoRAModule) else module.vectors(plan)
    for name, vector in made:
        if name in plan.constant_specs:
            encoded.put(name, vector)
            on_constant(1)
    return encoded


def _flood_bits(plan: Plan, module: Weights, server: ServerSession) -> Mapping[int, int]:
    """Floods for these weights, but no smaller than for usual ones: their size shows in the noise."""
    if plan.sanitize_bits is None:
        return {}
    usual, own = Magnitudes.of_shape(plan.shape), magnitudes_of(module)
    larger = Magnitudes(
        x_rms=usual.x_rms,
        down_rms=max(usual.down_rms, own.down_rms),
        up_rms=max(usual.up_rms, own.up_rms),
    )
    report = plan.precision(larger, public_encryption=not server.capabilities.symmetric_encryption)
    return report.flood_bits


def magnitudes_of(module: Weights) -> Magnitudes:
    """How large a module's weights are."""
    return Magnitudes.of(module) if isinstance(module, LoRAModule) else module.magnitudes


class ConstantCache:
    """Encoded weights by module, plan and server; over the byte budget, those used longest ago are dropped.

    Args:
        byte_budget: Bytes of encoded plaintexts to keep over all modules.
        on_constant: Called with 1 for each plaintext made, for progress bars.
    """

    def __init__(
        self, byte_budget: int = DEFAULT_BYTE_BUDGET, *, on_constant: Callable[[int], object] = lambda count: None
    ) -> None:
        self._byte_budget = byte_budget
        self._on_constant = on_constant
        self._kept: OrderedDict[tuple[str, Weights, ServerSession], EncodedConstants] = OrderedDict()

    @property
    def bytes_held(self) -> int:
        """Bytes of all plaintexts that are kept encoded."""
        return sum(constants.bytes_held for constants in self._kept.values())

    def constants(self, plan: Plan, module: Weights, server: ServerSession) -> EncodedConstants:
        """The module's plaintexts; encoded now unless they are kept. Errors as of ``encode_constants``."""
        key = (plan.digest, module, server)
        if key not in self._kept:
            self._kept[key] = encode_constants(
                plan, module, server, byte_budget=self._byte_budget, on_constant=self._on_constant
            )
        self._kept.move_to_end(key)
        while self.bytes_held > self._byte_budget and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return self._kept[key]
