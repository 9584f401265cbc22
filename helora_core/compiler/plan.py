"""A plan: everything that is known of running one module shape with one packing, before any key or weight exists.

It is pure data and arithmetic. Equal inputs give an equal ``digest`` in any process and on any platform.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.backend.ledger import OperationCounts
from helora_core.backend.short_results import LowBits, low_bits_of
from helora_core.compiler.checks import Scales, ValueInfo, constant_specs
from helora_core.compiler.cost import Budget, Sizes, check_budget, count_operations, relative_cost
from helora_core.compiler.error_flow import merges
from helora_core.compiler.exponents import normalized
from helora_core.compiler.grid import Correlation, bits_per_query, correlation_of, precision_on
from helora_core.compiler.ir import ConstantSpec, OpKind, Program
from helora_core.compiler.phases import Traffic, ahead_bytes, online_bytes
from helora_core.compiler.plan_row import plan_row
from helora_core.compiler.precision import PrecisionReport, analyse
from helora_core.compiler.request import USUAL_TRAITS, BackendTraits
from helora_core.compiler.rounding import check_rounding
from helora_core.compiler.rounds import Phase, Round, rounds_of
from helora_core.compiler.settings import Settings
from helora_core.compiler.signature import input_signature
from helora_core.compiler.sizes import bytes_down, bytes_up, key_bytes
from helora_core.errors import InvalidInput
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.protocol import Layout, Packing, Vector
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import NoiseModel
from helora_core.params.security import SecurityVerdict
from helora_core.privacy.policy import keeps_weights_private

SCHEMA = 4
"""Raised whenever the meaning of a digested field changes."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A compiled module shape. Make one with ``compile_plan``.

    Attributes:
        packing: The strategy it was made with.
        shape: The module shape it is for.
        layout: The packing fixed to shape and slots.
        settings: Parameters and scales.
        program: What the server executes.
        values: Level and scale of each value of the program.
        verdict: What the security table says of the parameters.
        sanitize_bits: Statistical distance to which results are sanitised; None if they are sent as they are.
        tokens: Tokens that the layout was chosen for; None for fewest a run. Like ``costs``, no part of the digest.
        costs: By which layouts were compared.
        traits: What the backend is taken to be like; likewise. One that gives every plaintext the same scale calls it
            2^bits whatever the primes that it divides by.
        exponent: Δ is 2^exponent times what the program computes, for the module that the plan is for; None for a shape
            alone. It is public and tells the size of the weights to a factor of two. No part of the digest: what runs
            is the same for every module of the shape.
    """

    packing: Packing
    shape: ModuleShape
    layout: Layout
    settings: Settings
    program: Program
    values: tuple[ValueInfo, ...]
    verdict: SecurityVerdict
    sanitize_bits: int | None = None
    tokens: int | None = None
    costs: OperationCosts = DEFAULT_COSTS
    traits: BackendTraits = USUAL_TRAITS
    exponent: int | None = None

    def for_module(self, module: LoRAModule) -> Plan:
        """The plan for a module of its shape.

        Raises:
            PrecisionLost: It runs ahead of time, and allows for less than rounding does to this module's weights.
        """
        scaled, exponent = normalized(module, merged=self.merged)
        if self.correlation is not None:
            check_rounding(module.name, self.shape, scaled.down, scaled.scaled_up, self.correlation)
        return self.with_exponent(exponent)

    def with_exponent(self, exponent: int) -> Plan:
        """The plan for a module of this exponent, as an offer states it."""
        if exponent == self.exponent:
            return self
        plan = replace(self, exponent=exponent)
        # Cached results do not depend on the exponent.
        plan.__dict__.update({name: value for name, value in self.__dict__.items() if name not in plan.__dict__})
        return plan

    def normalized(self, module: LoRAModule) -> LoRAModule:
        """The module as the program takes it (``helora_core.compiler.exponents``).

        Raises:
            InvalidInput: The plan is for a module of another shape or exponent.
        """
        scaled, exponent = normalized(module, merged=self.merged)
        if module.shape != self.shape or self.exponent not in (None, exponent):
            raise InvalidInput(
                f"Module {module.name} has shape {module.shape} and exponent {exponent}; the plan is for {self.shape} "
                f"and {self.exponent}.",
                hint="Compile a plan for this module, or take plan.for_module(module).",
            )
        return scaled

    @property
    def params(self) -> CKKSParams:
        """Nominal parameters (a backend resolves them to primes)."""
        return self.settings.params

    @property
    def scales(self) -> Scales:
        """log2 of the scales of input and plaintexts."""
        return self.settings.scales

    @cached_property
    def counts(self) -> OperationCounts:
        """Operations of one execution."""
        return count_operations(self.program)

    @cached_property
    def rotation_steps(self) -> tuple[int, ...]:
        """Steps that need a rotation key, ascending; no others are made."""
        return self.program.rotation_steps

    @cached_property
    def constant_specs(self) -> dict[str, ConstantSpec]:
        """Level and scale of every plaintext, by name, in the order of first use."""
        return constant_specs(self.program, self.values, self.scales)

    @cached_property
    def input_signature(self) -> str:
        """What a ciphertext of activations depends on, as SHA-256 (hex): plans of equal signatures take the same ones.

        Where the layout puts which number is seen from numbers that tell where they come from.
        """
        shape = (self.tokens_per_run, self.shape.d_in)
        if self.correlation is not None:  # a vector for each input, with a number for each token
            placed = [np.array([1.0 + position]) for position in self.program.input_positions]
            return input_signature(self.params, self.scales.input_bits, self.program.encoding, shape, placed)
        placed = self.pack(np.arange(1.0, 1.0 + math.prod(shape)).reshape(shape))
        return input_signature(self.params, self.scales.input_bits, self.program.encoding, shape, placed)

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """What the server does between two messages of the client; a round trip each."""
        return rounds_of(self.program)

    @property
    def round_trips(self) -> int:
        """How often the client waits for the server in one run, once activations are there."""
        return sum(turn.phase is Phase.ONLINE for turn in self.rounds)

    @cached_property
    def correlation(self) -> Correlation | None:
        """What the correlations are that the plan makes ahead of time; None if all of it runs online."""
        return correlation_of(self.program, self.shape, self.params, self.scales)

    @property
    def bits_per_query(self) -> float:
        """Bits of each number of ``down`` times its input, modulo 2^64, that one answer to an input that is chosen
        freely can show (``helora_core.compiler.grid.bits_per_query``); 0 if nothing is made ahead of time.
        """
        return 0.0 if self.correlation is None else bits_per_query(self.shape, self.correlation)

    def queries_to_copy(self, wanted_bits: int) -> int:
        """The fewest queries that show every number of ``down`` to so many bits; a column each without a modulus."""
        if self.correlation is None:
            return self.shape.d_in
        return math.ceil(self.shape.d_in * wanted_bits / self.bits_per_query)

    @property
    def keeps_weights_private(self) -> bool:
        """Whether the key holder learns Δ alone, and the public powers of two."""
        leakage = self.packing.leakage
        return keeps_weights_private(leakage) and bool(self.sanitize_bits or not leakage.needs_sanitize)

    @property
    def leakage_label(self) -> str:
        """The leakage class, with an asterisk where it would hold only if results were sanitised."""
        leakage = self.packing.leakage
        return leakage.key_holder.value if self.sanitize_bits else leakage.label

    @property
    def is_zero(self) -> bool:
        """Whether the module's Δ is zero whatever x is, as weights or scaling are: nothing is run for it then."""
        return not self.program.results

    @property
    def needs_public_key(self) -> bool:
        """Whether the server encrypts: to re-randomise what it sends."""
        return any(op.kind in (OpKind.SANITIZE, OpKind.MASK) for op in self.program.ops)

    @cached_property
    def low_bits(self) -> tuple[LowBits, ...]:
        """For each result, the low bits of its two polynomials that a library leaves out if it can."""
        return tuple(low_bits_of(self.program.ops[i].low_bits) for i in self.program.results)

    @property
    def tokens_per_run(self) -> int:
        """Tokens that one execution handles."""
        return self.layout.tokens_per_run

    def runs(self, tokens: int) -> int:
        """Executions that ``tokens`` tokens take; the last may be partly padding."""
        return -(-tokens // self.tokens_per_run)

    def precision(self, *, noise_model: NoiseModel | None = None) -> PrecisionReport:
        """A bound on the error of the result, before anything runs; and how large floods and masks must be.

        Args:
            noise_model: What is known of the backend's noise; as the plan has it if None.
        """
        if self.correlation is not None:
            return precision_on(self.shape, self.correlation)
        model = self.traits.noise_model if noise_model is None else noise_model
        if model not in self._reports:
            self._reports[model] = analyse(
                self.program,
                self.values,
                self.params,
                self.scales,
                shape=self.shape,
                client_finishes=self.packing.client_finishes,
                noise_model=model,
                nominal_scales=model.nominal_scales or not self.traits.free_scales,
            )
        return self._reports[model]

    @cached_property
    def _reports(self) -> dict[NoiseModel, PrecisionReport]:
        return {}

    @cached_property
    def run_cost(self) -> float:
        """What one execution costs by the plan's own ``costs``, to compare plans of equal ones."""
        return relative_cost(self.program, self.costs)

    @cached_property
    def merged(self) -> bool:
        """Whether the program multiplies by up·down at once."""
        return not self.packing.client_finishes and merges(self.program)

    @property
    def bytes_up(self) -> int:
        """Bytes that the client sends in one full run, once activations are there: ciphertexts, seeded and before
        compression, or masked numbers.
        """
        return self._traffic.up

    @property
    def bytes_down(self) -> int:
        """Bytes that it receives: ciphertexts before compression, or masked numbers."""
        return self._traffic.down

    @cached_property
    def _traffic(self) -> Traffic:
        if self.correlation is not None:
            return online_bytes(self.program, self.correlation, self.tokens_per_run)
        return Traffic(bytes_up(self.program, self.params), bytes_down(self.program, self.values, self.params))

    def bytes_for(self, tokens: int) -> Traffic:
        """Bytes up and down for so many tokens: ciphertexts come in whole runs, masked numbers do not."""
        if self.correlation is not None:
            return online_bytes(self.program, self.correlation, tokens)
        runs = self.runs(tokens)
        return Traffic(runs * self.bytes_up, runs * self.bytes_down)

    @cached_property
    def ahead_bytes(self) -> Traffic:
        """Bytes up and down of one batch that is made ahead of time; none if nothing is."""
        return Traffic(0, 0) if self.correlation is None else ahead_bytes(self.program, self.correlation, self.params)

    @cached_property
    def key_bytes(self) -> int:
        """Bytes of the rotation keys, sent once, before compression."""
        return key_bytes(self.program, self.params)

    def check_budget(self, tokens: int, budget: Budget | None = None) -> None:
        """Check what ``tokens`` tokens cost by this plan against a budget.

        Raises:
            BudgetExceeded: As ``check_budget`` of ``helora_core.compiler.cost`` does.
        """
        runs = self.runs(tokens)
        sizes = Sizes(bytes=sum(self.bytes_for(tokens)), key_bytes=self.key_bytes, depth=self.packing.depth)
        check_budget(self.counts.times(runs), tokens=tokens, budget=budget, sizes=sizes, program=self.program)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over all that determines what runs: packing and version, shape, parameters, scales, program."""
        content = {
            "schema": SCHEMA,
            "packing": self.packing.name,
            "packing_version": self.packing.version,
            "shape": self.shape,
            "params": self.params.digested,
            "scales": self.scales,
            "layout": dict(self.layout.figures),
            "program": self.program,
        }
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()

    def pack(self, x: Vector) -> list[Vector]:
        """Vectors to encrypt, from the activations of one run; those that the program does not read are left out.

        Raises:
            InvalidInput: ``x`` is not (1 … tokens_per_run, d_in).
        """
        if x.ndim != 2 or x.shape[1] != self.shape.d_in or not 1 <= x.shape[0] <= self.tokens_per_run:
            raise InvalidInput(
                f"Plan {self.packing.name} {self.shape}: one run takes 1 to {self.tokens_per_run} tokens of "
                f"{self.shape.d_in} values, not an array of shape {x.shape}.",
                hint="Split the tokens into runs first, as helora_core.parties.batching.batches does.",
            )
        vectors = self.layout.pack(x)
        return [vectors[position] for position in self.program.input_positions]

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None = None) -> Vector:
        """Δ of shape (tokens, d_out), from the decrypted vectors of one run, without those known to be zero.

        Raises:
            LeakageRefused: The packing needs the adapter in the clear at the client and did not get it.
        """
        places = self.params.ring_degree if self.program.encoding is Encoding.COEFFICIENTS else self.params.slots
        received = iter(outputs)
        filled = [np.zeros(places) if output is None else next(received) for output in self.program.outputs]
        return self.layout.unpack(filled, tokens, client_module)

    def to_dict(self, *, tokens: int | None = None) -> dict[str, Any]:
        """The plan as JSON-ready data; the keys are documented in docs/cli.md.

        Args:
            tokens: Tokens to spread the costs over; those of one full run if None.
        """
        return plan_row(self, self.tokens_per_run if tokens is None else tokens)
