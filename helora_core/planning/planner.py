"""Chooses packing, parameters, batch and backend by predicted cost, under constraints; and says why not the others.

Every packing is compiled for the module, in the smallest ring that will do and in the next one, and priced with the
backend's profile; where a plan breaks a constraint, in larger rings until one keeps it. Where a backend was not
calibrated, relative weights stand in, which only rank plans of one ring.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.checked_backend import checked
from helora_core.backend.protocol import Backend
from helora_core.compiler.compile import compile_plan, emitted_cost
from helora_core.compiler.cost import Budget, relative_cost
from helora_core.compiler.plan import Plan
from helora_core.compiler.precision import check_precision
from helora_core.compiler.requirements import require_capabilities
from helora_core.compiler.settings import DEFAULT_PRECISION_BITS, settings_for
from helora_core.errors import (
    BudgetExceeded,
    HeloraError,
    HopelessPacking,
    InsecureParameters,
    LeakageRefused,
    NothingEligible,
    PrecisionLost,
)
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.protocol import Packing
from helora_core.params.noise import NoiseModel
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, require_secure
from helora_core.planning.predict import Prediction, operation_costs, predict
from helora_core.planning.profile import Profile
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS, keeps_weights_private, require_private_weights

NO_BUDGET = Budget(rotations=None, keyswitches=None, rescales=None)

HOPELESS = 20.0
"""A packing whose emitted program costs this many times the best so far is not compiled."""

_LARGEST_RING = 16384

_WORTH_A_LARGER_RING = 4.0
"""Twice the ring makes an operation cost about twice, and saves at most the runs or blocks that it halves: a packing
that costs more than this many times the best is not compiled again for it."""


_OF_THE_RING = (BudgetExceeded, PrecisionLost, InsecureParameters)
"""Refusals of a plan that a larger ring may mend: it runs more tokens together, and holds a larger modulus."""

_OF_THE_PACKING = (LeakageRefused.code, HopelessPacking.code)
"""Refusals that say more of the packing than of what was asked."""


class Constraints(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan has to keep.

    Attributes:
        private_weights: Whether the key holder may learn nothing of the weights beyond Δ.
        sanitize_bits: To which distance results are sanitised; None for not at all.
        budget: Bounds on operations, bytes and depth.
        rtt_ms: Network round trip that each message to the server and back is charged.
        target_bits: Bits of the Δ to be expected that the plan's bound on errors must leave.
        ring_degree: The only ring to consider; None for all.
        security_bits: 128, 192 or 256.
        table: Name of the security table.
    """

    private_weights: bool = True
    sanitize_bits: int | None = DEFAULT_SANITIZE_BITS
    budget: Budget = NO_BUDGET
    rtt_ms: float = 0.0
    target_bits: float = DEFAULT_PRECISION_BITS
    ring_degree: int | None = None
    security_bits: int = DEFAULT_SECURITY_BITS
    table: str = DEFAULT_TABLE


@dataclass(frozen=True)
class CalibratedBackend:
    """A backend with what its operations take here: None where it was not calibrated, or where there is no backend."""

    backend: Backend | None
    profile: Profile | None


@dataclass(frozen=True)
class Candidate:
    """One way to run a module, or why it is none.

    Attributes:
        backend: Name of the backend.
        packing: Name of the packing.
        plan: The plan, if it could be compiled.
        prediction: What it will take, by the backend's profile.
        cost: What candidates are ranked by: milliseconds for all tokens, or a relative cost without a profile.
        refusal: Why it is not eligible; None if it is.
    """

    backend: str
    packing: str
    plan: Plan | None = None
    prediction: Prediction | None = None
    cost: float = float("inf")
    refusal: HeloraError | None = None


def rank(
    shape: ModuleShape,
    tokens: int,
    machines: Mapping[str, CalibratedBackend],
    packings: Sequence[Packing],
    constraints: Constraints,
    *,
    module: LoRAModule | None = None,
) -> list[Candidate]:
    """Every packing on every backend: the eligible ones first, the cheapest first, then the refused.

    Args:
        shape: The module's shape.
        tokens: Tokens in flight.
        machines: Backends by name.
        packings: The strategies to consider.
        constraints: What has to be kept.
        module: Leave out what its zeros make superfluous.
    """
    candidates: list[Candidate] = []
    for name, machine in machines.items():
        best = float("inf")
        for packing in packings:
            options = list(_options(shape, tokens, name, machine, packing, packings, constraints, module, best))
            eligible = [option for option in options if option.refusal is None]
            candidates += eligible or options[:1]
            best = min([best, *(option.cost for option in eligible)])
    return sorted(candidates, key=lambda each: (each.refusal is not None, each.cost))


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The first eligible candidate.

    Raises:
        NothingEligible: There is none; it gives every refusal. Where all that keep the weights private are refused for
            one kind of reason, that refusal itself.
    """
    if candidates and candidates[0].refusal is None:
        return candidates[0]
    telling = [each.refusal for each in candidates if each.refusal and each.refusal.code not in _OF_THE_PACKING]
    if telling and len({refusal.code for refusal in telling}) == 1:
        raise telling[0]
    reasons = "; ".join(
        f"{each.packing} on {each.backend}: {each.refusal.message.rstrip('.')}" for each in candidates if each.refusal
    )
    raise NothingEligible(
        f"No packing can run this module under these constraints: {reasons or 'there are no packings or backends'}.",
        hint="Loosen a constraint; `helora explain` shows each packing's refusal.",
    )


def _options(
    shape: ModuleShape,
    tokens: int,
    name: str,
    machine: CalibratedBackend,
    packing: Packing,
    packings: Sequence[Packing],
    constraints: Constraints,
    module: LoRAModule | None,
    best: float,
) -> Iterator[Candidate]:
    """A packing in the smallest ring that keeps the constraints and in the next one; refusals have no plan."""
    ring_degree = constraints.ring_degree
    larger = found = False
    while True:
        try:
            if not larger:
                _check_leakage(packing, packings, constraints)
            plan, costs = _compiled(shape, tokens, machine, packing, constraints, module, ring_degree, best)
        except HeloraError as refusal:
            yield Candidate(name, packing.name, refusal=refusal)
            return
        try:
            candidate = _priced(plan, tokens, name, machine, constraints, costs)
        except _OF_THE_RING as refusal:
            candidate = Candidate(name, packing.name, refusal=refusal)
        except HeloraError as refusal:
            yield Candidate(name, packing.name, refusal=refusal)
            return
        yield candidate
        found = found or candidate.refusal is None
        # Relative weights know nothing of rings, and could not tell whether a larger one pays.
        if found and (larger or machine.profile is None or candidate.cost > _WORTH_A_LARGER_RING * best):
            return
        ring_degree, larger = 2 * plan.params.ring_degree, True
        if constraints.ring_degree is not None or ring_degree > _LARGEST_RING:
            return


def _compiled(
    shape: ModuleShape,
    tokens: int,
    machine: CalibratedBackend,
    packing: Packing,
    constraints: Constraints,
    module: LoRAModule | None,
    ring_degree: int | None,
    best: float,
) -> tuple[Plan, OperationCosts]:
    """The plan, and what operations cost where it was chosen."""
    abilities = None if machine.backend is None else machine.backend.capabilities
    options: dict[str, Any] = {
        "ring_degree": ring_degree,
        "precision_bits": constraints.target_bits,
        "security_bits": constraints.security_bits,
        "table": constraints.table,
        "sanitize_bits": constraints.sanitize_bits or 0,
        "free_scales": abilities is None or abilities.free_plaintext_scale,
        "noise_model": NoiseModel() if abilities is None else abilities.noise_model,
    }
    settings = settings_for(shape, packing, **options)
    costs = DEFAULT_COSTS
    if machine.profile is not None:
        costs = operation_costs(machine.profile, settings.params, rtt_ms=constraints.rtt_ms)
    if best < math.inf:
        most = HOPELESS * best
        roughly = emitted_cost(
            shape, packing, settings, tokens=tokens, sanitize_bits=constraints.sanitize_bits, costs=costs, most=most
        )
        if roughly > most:
            raise HopelessPacking(
                f"Planner: {packing.name} costs more than {HOPELESS:g} times as much as what is known already.",
                hint="Ask for it by name (--packing) to see what it costs.",
            )
    plan = compile_plan(
        shape,
        packing,
        tokens=tokens,
        module=module,
        costs=costs,
        private_weights=constraints.private_weights,
        **options,
    )
    return plan, costs


def _priced(
    plan: Plan, tokens: int, name: str, machine: CalibratedBackend, constraints: Constraints, costs: OperationCosts
) -> Candidate:
    """The candidate that a plan is, if it keeps the constraints."""
    check_precision(plan.precision(), constraints.target_bits)
    plan.check_budget(tokens, constraints.budget)
    if machine.backend is not None:
        require_capabilities(machine.backend, plan)
        resolved = checked(machine.backend).resolve(plan.params)
        require_secure(resolved, security_bits=constraints.security_bits, table=constraints.table)
    if machine.profile is None:
        return Candidate(name, plan.packing.name, plan, cost=plan.runs(tokens) * relative_cost(plan.program, costs))
    prediction = predict(plan, machine.profile, tokens=tokens, rtt_ms=constraints.rtt_ms)
    return Candidate(name, plan.packing.name, plan, prediction, prediction.total_ms)


def _check_leakage(packing: Packing, packings: Sequence[Packing], constraints: Constraints) -> None:
    if constraints.private_weights:
        require_private_weights(
            packing.name,
            packing.leakage,
            sanitize_bits=constraints.sanitize_bits,
            qualifying=[each.name for each in packings if keeps_weights_private(each.leakage)],
        )


def best_machine(
    jobs: Sequence[tuple[LoRAModule, int]],
    machines: Mapping[str, CalibratedBackend],
    packings: Sequence[Packing],
    constraints: Constraints,
) -> str:
    """The backend on which all jobs together are predicted to take least time.

    Args:
        jobs: Modules and the tokens to run through each.
        machines: Backends by name, one or more; costs of calibrated and of other ones do not compare.
        packings: The strategies to consider.
        constraints: What has to be kept.

    Raises:
        NothingEligible: Some job can run on none of them.
    """
    names = list(machines)
    if len(names) == 1:
        return names[0]
    totals = dict.fromkeys(names, 0.0)
    weighed = Counter((module.shape, tokens) for module, tokens in jobs)
    for (shape, tokens), times in weighed.items():
        ranked = rank(shape, tokens, machines, packings, constraints)
        choose(ranked)
        for name in names:
            totals[name] += times * min(each.cost for each in ranked if each.backend == name)
    return min(names, key=lambda name: totals[name])
