"""A request to the compiler as one value. Each entry point makes and checks one and passes it on as a whole.

``helora_core.compile``, ``compile_plan`` and the command line make one. Code that needs another value further down
replaces it (``request.within``); no code takes it apart into arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Capabilities
from helora_core.compiler.cost import NO_BUDGET, Budget
from helora_core.errors import InvalidInput
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.protocol import InEitherEncoding, Packing
from helora_core.params.ckks import MAX_PRIME_BITS
from helora_core.params.noise import USUAL_NOISE, NoiseModel
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, load_table
from helora_core.privacy.leakage import Assumption
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS

AUTO = "auto"

DEFAULT_PRECISION_BITS = 12.0

MOST_TOKENS = 1 << 31
"""More than users have at once, and few enough to compute with."""

MOST_COUNTS = 4
"""Most numbers of tokens that plans are compiled for together: every combination of plans is compared."""

_MOST_SANITIZE_BITS = 64


class Constraints(msgspec.Struct, frozen=True, kw_only=True):
    """The constraints on a plan.

    Attributes:
        private_weights: Whether the key holder may learn nothing of the weights beyond Δ.
        sanitize_bits: Statistical distance to which results are sanitised, 1 to 64; None for not at all.
        budget: Bounds on operations, bytes and depth.
        rtt_ms: Network round trip that each message to the server and back is charged.
        ahead: Tokens that are expected to use what plans prepare ahead of time; None for those of a request alone.
        target_bits: Bits of the expected Δ that the plan's bound on errors must leave.
        fixed_bits: The same for plans that run ahead of time, whose precision follows from the shape; None for
            ``target_bits``.
        ring_degree: The only ring to consider; None for all.
        security_bits: A level of the table: 128, 192 or 256.
        table: Name of the security table.
        assume: What the owner of the weights accepts as true of every client: no plan rests on anything else.

    Raises:
        InvalidInput: A number is out of its range.
        InvalidParameters: The table does not exist, or does not have this level.
    """

    private_weights: bool = True
    sanitize_bits: int | None = DEFAULT_SANITIZE_BITS
    budget: Budget = NO_BUDGET
    rtt_ms: float = 0.0
    ahead: int | None = None
    target_bits: float = DEFAULT_PRECISION_BITS
    fixed_bits: float | None = None
    ring_degree: int | None = None
    security_bits: int = DEFAULT_SECURITY_BITS
    table: str = DEFAULT_TABLE
    assume: frozenset[Assumption] = frozenset()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "assume", frozenset(self.assume))
        load_table(self.table).rings(self.security_bits)
        for name in ("target_bits", "fixed_bits"):
            bits = getattr(self, name)
            if bits is not None and not (math.isfinite(bits) and bits >= 0):
                raise InvalidInput(
                    f"Constraints: {name} is {bits}, which is not a number of bits.",
                    hint="Ask for 0 bits or more, such as 12.",
                )
        if not (math.isfinite(self.rtt_ms) and self.rtt_ms >= 0):
            raise InvalidInput(
                f"Constraints: rtt_ms is {self.rtt_ms}, which is not a time.", hint="Give milliseconds, 0 or more."
            )
        if self.ahead is not None and self.ahead < 1:
            raise InvalidInput(
                f"Constraints: ahead is {self.ahead}, which is not a number of tokens.",
                hint="Give the tokens that will be used of what is prepared, or None for those of each request.",
            )
        if self.sanitize_bits is not None and not 1 <= self.sanitize_bits <= _MOST_SANITIZE_BITS:
            raise InvalidInput(
                f"Constraints: sanitize_bits is {self.sanitize_bits}; it goes from 1 to {_MOST_SANITIZE_BITS}.",
                hint=f"Take {DEFAULT_SANITIZE_BITS}; or None, for results that are not sanitised.",
            )

    def wanted_bits(self, *, ahead: bool) -> float:
        """The bits that a plan must keep, which runs ahead of time or does not."""
        return self.fixed_bits if ahead and self.fixed_bits is not None else self.target_bits


class BackendTraits(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a backend that plans depend on.

    Attributes:
        free_scales: Whether each plaintext may have its own scale; False for backends with one scale for all.
        exact_coefficients: Whether it encodes coefficients as integers, so that they can be sanitised, at any scale.
        noise_model: The model of its noise.
        longest_prime_bits: The longest primes to choose.
        short_results: Whether it sends results without low bits.
        reserves_special: Whether its chains of several data primes have a special one even if no key is switched.
    """

    free_scales: bool = True
    exact_coefficients: bool = False
    noise_model: NoiseModel = USUAL_NOISE
    longest_prime_bits: int = MAX_PRIME_BITS
    reserves_special: bool = True
    short_results: bool = False

    def suited(self, packing: Packing) -> Packing:
        """The packing in the encoding that it is best in on such a backend."""
        return packing.in_coefficients if self.exact_coefficients and isinstance(packing, InEitherEncoding) else packing

    @classmethod
    def of(cls, backends: Iterable[Capabilities]) -> BackendTraits:
        """The traits that suit all of some backends; the defaults if there are none."""
        abilities = list(backends)
        return cls(
            free_scales=all(each.free_plaintext_scale for each in abilities),
            exact_coefficients=bool(abilities)
            and all(each.exact_integers and each.free_plaintext_scale for each in abilities),
            noise_model=NoiseModel.noisiest(each.noise_model for each in abilities),
            longest_prime_bits=min((each.longest_prime_bits for each in abilities), default=MAX_PRIME_BITS),
            reserves_special=not abilities or any(each.reserves_special for each in abilities),
            short_results=bool(abilities) and all(each.short_results for each in abilities),
        )


USUAL_TRAITS = BackendTraits()
"""The traits of a backend that is not known."""


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """One module, or only a shape, with the wishes for its plans.

    Attributes:
        shape: d_in, d_out and rank of the module.
        module: The module itself: its plans have its exponent, and leave out what its zeros make superfluous.
        tokens: Numbers of tokens that will be run together, which layouts are chosen for; none for the fewest per run.
            For several, plans are compiled that share their parameters and keys.
        constraints: The constraints on every plan.
        packing: Name of the packing; ``auto`` for the one predicted to be fastest.
        backend: Name of the backend; None or ``auto`` for the best that can run the plans.
        allow_emulation: Let ``auto`` fall back to a backend that encrypts nothing.
        storable: Choose only packings whose plans run without the adapter.
        traits: The traits of the backend.
        costs: The costs of operations on the backend, to choose among layouts.

    Raises:
        InvalidInput: A number of tokens is out of range, or there are too many; or the module has another shape.
    """

    shape: ModuleShape
    module: LoRAModule | None = None
    tokens: tuple[int, ...] = ()
    constraints: Constraints = field(default_factory=Constraints)
    packing: str = AUTO
    backend: str | None = None
    allow_emulation: bool = False
    storable: bool = False
    traits: BackendTraits = USUAL_TRAITS
    costs: OperationCosts = DEFAULT_COSTS

    def __post_init__(self) -> None:
        for count in self.tokens:
            if not 1 <= count <= MOST_TOKENS:
                raise InvalidInput(
                    f"{count} tokens cannot be run together.", hint=f"Give a number from 1 to {MOST_TOKENS}."
                )
        if len(set(self.tokens)) > MOST_COUNTS:
            raise InvalidInput(
                f"Plans for {len(set(self.tokens))} numbers of tokens at once; {MOST_COUNTS} are compiled together.",
                hint="Leave some out: a plan for more tokens also runs fewer.",
            )
        if self.module is not None and self.module.shape != self.shape:
            raise InvalidInput(
                f"Module {self.module.name} has shape {self.module.shape}, but {self.shape} was asked for.",
                hint="Give the module's own shape.",
            )

    @property
    def count(self) -> int | None:
        """The number of tokens, for a request with one number; None for the fewest per run."""
        return self.tokens[0] if self.tokens else None

    @property
    def auto_backend(self) -> bool:
        """Whether the backend is to be chosen."""
        return self.backend in (None, AUTO)

    def each_count(self) -> Iterator[PlanRequest]:
        """A request for each distinct number of tokens, in ascending order."""
        for count in sorted(set(self.tokens)):
            yield replace(self, tokens=(count,))

    def within(self, **constraints: Any) -> PlanRequest:
        """The same request with other constraints, by their names."""
        return replace(self, constraints=msgspec.structs.replace(self.constraints, **constraints))
