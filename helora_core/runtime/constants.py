"""A module's weights as the plaintexts of a plan: encoded once, as far as a byte budget goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Plaintext
from helora_core.backend.session import ServerSession
from helora_core.compiler.plan import ConstantSpec, Plan
from helora_core.errors import InvalidInput
from helora_core.packing.protocol import Vector

DEFAULT_BYTE_BUDGET = 4 << 30
"""Bytes of encoded plaintexts to keep: 4 GiB."""

_RESIDUE_BYTES = 8


class EncodedConstants:
    """Plaintexts by name. Those over the byte budget are kept as numbers and encoded each time they are used.

    Attributes:
        server: The session that they are encoded for.
        bytes_held: Bytes of the plaintexts that are kept encoded.
        over_budget: How many are not.
    """

    def __init__(self, server: ServerSession, specs: dict[str, ConstantSpec], byte_budget: int) -> None:
        self.server = server
        self.bytes_held = 0
        self.over_budget = 0
        self._specs = specs
        self._byte_budget = byte_budget
        self._encoded: dict[str, Plaintext] = {}
        self._numbers: dict[str, Vector] = {}

    def put(self, name: str, vector: Vector) -> None:
        """Keep a plaintext, encoded if the budget allows."""
        spec = self._specs[name]
        size = plaintext_bytes(spec, self.server.params.ring_degree)
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
    module: LoRAModule,
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
    encoded = EncodedConstants(server, plan.constant_specs, byte_budget)
    for name, vector in plan.layout.constants(module):
        if name in plan.constant_specs:
            encoded.put(name, vector)
            on_constant(1)
    return encoded


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
        self._kept: OrderedDict[tuple[str, LoRAModule, ServerSession], EncodedConstants] = OrderedDict()

    @property
    def bytes_held(self) -> int:
        """Bytes of all plaintexts that are kept encoded."""
        return sum(constants.bytes_held for constants in self._kept.values())

    def constants(self, plan: Plan, module: LoRAModule, server: ServerSession) -> EncodedConstants:
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
