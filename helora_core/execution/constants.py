"""A module's weights as the plaintexts of a plan, encoded once as far as a byte budget allows."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_programs import CheckedExecutable, LoadedWeights
from helora_core.backend.encoder import PlaintextEncoder
from helora_core.backend.handles import Family, Plaintext
from helora_core.compiler.checks import check_headroom
from helora_core.compiler.compiled import Weights
from helora_core.compiler.ir import ConstantSpec
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput, PrecisionLost
from helora_core.execution.distinct_rows import rounded_apart
from helora_core.execution.programs import Programs, programs_of
from helora_core.execution.rounding import Squares, dither, moves_too_much, rounding_squares
from helora_core.packing.protocol import ScaleRole, Vector

DEFAULT_BYTE_BUDGET = 4 << 30
"""Bytes of encoded plaintexts to keep: 4 GiB."""

_RESIDUE_BYTES = 8


class EncodedConstants:
    """Plaintexts by name. Those over the byte budget are kept as numbers and encoded each time they are used.

    Attributes:
        encoder: The encoder that made them; they work in every session of its backend and parameters.
        bytes_held: Bytes of the plaintexts that are kept encoded.
        over_budget: How many plaintexts are not kept encoded.
        exponent: Δ is 2^exponent times the result computed with them.
        report: Errors, floods and masks, the same for all weights and keys.
    """

    def __init__(
        self,
        plan: Plan,
        encoder: PlaintextEncoder,
        byte_budget: int,
        exponent: int,
        programs: Programs | None = None,
    ) -> None:
        self.encoder = encoder
        self.exponent = exponent
        self.report = plan.precision(noise_model=encoder.capabilities.noise_model)
        self.bytes_held = 0
        self.over_budget = 0
        self._programs = programs
        self._loaded: dict[int, LoadedWeights] = {}  # by the id of the tape, which the weights keep alive
        self._loading = threading.Lock()
        self._specs = plan.constant_specs
        self._byte_budget = byte_budget
        self._encoded: dict[str, Plaintext] = {}
        self._numbers: dict[str, Vector] = {}
        self._down: list[Vector] = []  # rows of numbers whose sums are rescaled
        self._rescales = plan.settings.rescales

    def put(self, name: str, vector: Vector) -> None:
        """Keep a plaintext, encoded if the budget allows."""
        spec = self._specs[name]
        size = plaintext_bytes(spec, self.encoder.params.ring_degree)
        if spec.encoding is Encoding.COEFFICIENTS:
            integers = np.rint(np.ldexp(vector, spec.scale_bits)).astype(np.int64)
            if not integers.any():
                # Some libraries refuse to multiply by zero, or replace it by a polynomial that is not on the grid.
                integers[0] = 1
            vector = np.ldexp(integers.astype(np.float64), -spec.scale_bits)
        if spec.encoding is Encoding.SCALAR:
            if self._rescales and spec.role is ScaleRole.DOWN:
                self._down.append(rounded_apart(vector, spec.scale_bits, self._down))
                vector = np.ldexp(self._down[-1], -spec.scale_bits)
            # A scalar's plaintext is as large as any other, so a matrix of them would fill the memory.
            self._numbers[name] = vector
        elif self.bytes_held + size > self._byte_budget:
            self._numbers[name] = vector
            self.over_budget += 1
        else:
            self._encoded[name] = self._encode(vector, spec)
            self.bytes_held += size

    @property
    def programs(self) -> Programs | None:
        """The plan's rounds as whole programs; None if the backend runs them operation by operation, or if not all
        plaintexts are kept.
        """
        return None if self.over_budget else self._programs

    def weights(self, executable: CheckedExecutable) -> LoadedWeights:
        """The weights as the library keeps them for a tape; made on first use, by any thread."""
        tape = executable.tape
        loaded = self._loaded.get(id(tape))
        if loaded is not None:
            return loaded
        with self._loading:
            if id(tape) not in self._loaded:
                plaintexts = {name: self.plaintext(name) for name, each in tape.constants.items() if not each.numbers}
                numbers = {name: self._numbers[name] for name, each in tape.constants.items() if each.numbers}
                self._loaded[id(tape)] = executable.load(plaintexts, numbers)
            return self._loaded[id(tape)]

    def plaintext(self, name: str) -> Plaintext:
        """The plaintext of this name."""
        kept = self._encoded.get(name)
        return self._encode(self._numbers[name], self._specs[name]) if kept is None else kept

    def scalar(self, name: str, position: int) -> Plaintext:
        """The plaintext of the number at ``position`` of a vector."""
        return self._encode(self._numbers[name][position : position + 1], self._specs[name])

    def _encode(self, vector: Vector, spec: ConstantSpec) -> Plaintext:
        return self.encoder.encode(vector, level=spec.level, scale_bits=spec.scale_bits, encoding=spec.encoding)


def plaintext_bytes(spec: ConstantSpec, ring_degree: int) -> int:
    """Bytes of one encoded plaintext: a residue of 8 bytes for each coefficient and prime."""
    return 0 if spec.encoding is Encoding.SCALAR else _RESIDUE_BYTES * ring_degree * (spec.level + 1)


def encode_constants(
    plan: Plan,
    module: Weights,
    encoder: PlaintextEncoder,
    *,
    byte_budget: int = DEFAULT_BYTE_BUDGET,
    programs: Programs | None = None,
    on_constant: Callable[[int], object] = lambda count: None,
) -> EncodedConstants:
    """Encode the module's weights as the plan's plaintexts, once for all tokens.

    Args:
        plan: The plan.
        module: A module of the plan's shape.
        encoder: The encoder for the parameters of the sessions that will use them.
        byte_budget: Bytes of plaintexts to keep encoded; the rest is encoded at each use.
        programs: The plan's programs, if they were already prepared for another module.
        on_constant: Called with 1 for each plaintext made, for progress bars.

    Raises:
        InvalidInput: The module has another shape than the plan, or another exponent.
        PrecisionLost: The resolved parameters leave too little headroom.
    """
    if module.shape != plan.shape:
        raise InvalidInput(
            f"Module {module.name} has shape {module.shape}; the plan is for {plan.shape}.",
            hint="Compile a plan for this module's shape.",
        )
    if isinstance(module, LoRAModule):
        exponent = plan.for_module(module).exponent or 0
        every = partial(plan.layout.constants, plan.normalized(module))
    else:
        exponent, every = module.exponent, partial(module.vectors, plan)
    programs = programs or programs_of(plan, encoder)
    encoded = EncodedConstants(plan, encoder, byte_budget, exponent, programs)
    check_headroom(plan.program, plan.values, encoder.params, encoded.report.flood_bits, encoded.report.mask_bits)

    def made() -> Iterator[tuple[str, Vector]]:
        return ((name, vector) for name, vector in every() if name in plan.constant_specs)

    squares: dict[str, Squares] = {}
    for name, vector in made():
        spec = plan.constant_specs[name]
        encoded.put(name, vector)
        if spec.encoding is Encoding.SLOTS:
            squares[name] = rounding_squares(vector, spec, plan.params.ring_degree)
        on_constant(1)
    if squares and moves_too_much(plan, squares):
        return _dithered(plan, made, EncodedConstants(plan, encoder, byte_budget, exponent, programs), module.name)
    return encoded


def _dithered(
    plan: Plan, made: Callable[[], Iterator[tuple[str, Vector]]], encoded: EncodedConstants, name: str
) -> EncodedConstants:
    """The plaintexts, with noise smaller than a grid step added so that rounding is random."""
    n = plan.params.ring_degree
    squares: dict[str, Squares] = {}
    for constant, vector in made():
        spec, noise = plan.constant_specs[constant], dither(plan.constant_specs[constant], n)
        squares[constant] = rounding_squares(vector, spec, n, noise)
        noise[: vector.size] += vector
        encoded.put(constant, noise)
    if moves_too_much(plan, squares):  # once in a million modules
        raise PrecisionLost(
            f"Module {name}: rounding its weights to plaintexts would move Δ by more than the plan's bound allows.",
            hint="Encode it again: the rounding errors are random.",
        )
    return encoded


class ConstantCache:
    """Encoded weights by plan and module, for all sessions; over the byte budget, the least recently used are dropped.

    Any threads may use it at once. A module is encoded once, by the thread that asks for it first; the others wait for
    that module, and for no other of another plan.

    Args:
        byte_budget: Bytes of encoded plaintexts to keep over all modules.
        on_constant: Called with 1 for each plaintext made, for progress bars.
    """

    def __init__(
        self, byte_budget: int = DEFAULT_BYTE_BUDGET, *, on_constant: Callable[[int], object] = lambda count: None
    ) -> None:
        self._byte_budget = byte_budget
        self._on_constant = on_constant
        self._kept: OrderedDict[tuple[str, Weights, Family], EncodedConstants] = OrderedDict()
        self._programs: dict[tuple[str, Family], Programs | None] = {}
        self._lock = threading.Lock()
        self._encoding: defaultdict[tuple[str, Family], threading.Lock] = defaultdict(threading.Lock)

    @property
    def bytes_held(self) -> int:
        """Bytes of all plaintexts that are kept encoded."""
        with self._lock:
            return self._bytes_held()

    def constants(self, plan: Plan, module: Weights, encoder: PlaintextEncoder) -> EncodedConstants:
        """The module's plaintexts, encoded now unless they are cached; errors are those of ``encode_constants``."""
        key, shared = (plan.digest, module, encoder.family), (plan.digest, encoder.family)
        with self._lock:
            kept = self._found(key)
            encoding = self._encoding[shared]
        if kept is not None:
            return kept
        with encoding:  # one module of a plan at a time: they share its programs
            with self._lock:
                kept = self._found(key)
            if kept is not None:
                return kept
            if shared not in self._programs:
                self._programs[shared] = programs_of(plan, encoder)
            made = encode_constants(
                plan,
                module,
                encoder,
                byte_budget=self._byte_budget,
                programs=self._programs[shared],
                on_constant=self._on_constant,
            )
            with self._lock:
                self._kept[key] = made
                while self._bytes_held() > self._byte_budget and len(self._kept) > 1:
                    self._kept.popitem(last=False)
            return made

    def _found(self, key: tuple[str, Weights, Family]) -> EncodedConstants | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def _bytes_held(self) -> int:
        return sum(constants.bytes_held for constants in self._kept.values())
