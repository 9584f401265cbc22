"""Chooses packing, parameters, batch and backend by predicted cost, under constraints; and says why not the others.

Every packing is compiled for the module, in the smallest ring that will do and in the next one, and priced with the
backend's profile; where a plan breaks a constraint, in larger rings until one keeps it. Where a backend was not
calibrated, relative weights stand in, which only rank plans of one ring.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from helora_core.backend.checked_backend import checked
from helora_core.backend.protocol import Backend
from helora_core.compiler.compile import compile_request, emitted_cost
from helora_core.compiler.cost import relative_cost
from helora_core.compiler.plan import Plan
from helora_core.compiler.precision import check_precision
from helora_core.compiler.request import BackendTraits, Constraints, PlanRequest
from helora_core.compiler.requirements import require_capabilities
from helora_core.compiler.settings import settings_for
from helora_core.errors import (
    BudgetExceeded,
    HeloraError,
    HopelessPacking,
    InsecureParameters,
    LeakageRefused,
    NothingEligible,
    PrecisionLost,
)
from helora_core.packing.protocol import Packing
from helora_core.params.security import require_secure
from helora_core.planning.predict import Prediction, operation_costs, predict
from helora_core.planning.profile import Profile
from helora_core.privacy.policy import keeps_weights_private, require_private_weights

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


@dataclass(frozen=True)
class CalibratedBackend:
    """A backend with what its operations take here: None where it was not calibrated, or where there is no backend."""

    backend: Backend | None
    profile: Profile | None

    @property
    def traits(self) -> BackendTraits:
        """What plans for it depend on."""
        return BackendTraits.of([] if self.backend is None else [self.backend.capabilities])


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
    request: PlanRequest, machines: Mapping[str, CalibratedBackend], packings: Sequence[Packing]
) -> list[Candidate]:
    """Every packing on every backend: the eligible ones first, the cheapest first, then the refused.

    Args:
        request: What is to run, for one number of tokens in flight.
        machines: Backends by name.
        packings: The strategies to consider.
    """
    candidates: list[Candidate] = []
    for name, machine in machines.items():
        best = float("inf")
        for packing in packings:
            options = list(_options(request, name, machine, packing, packings, best))
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
    request: PlanRequest,
    name: str,
    machine: CalibratedBackend,
    packing: Packing,
    packings: Sequence[Packing],
    best: float,
) -> Iterator[Candidate]:
    """A packing in the smallest ring that keeps the constraints and in the next one; refusals have no plan."""
    asked = request.constraints
    ring_degree = asked.ring_degree
    larger = found = False
    while True:
        try:
            if not larger:
                _check_leakage(packing, packings, asked)
            plan = _compiled(request.within(ring_degree=ring_degree), machine, packing, best)
        except HeloraError as refusal:
            yield Candidate(name, packing.name, refusal=refusal)
            return
        try:
            candidate = priced(plan, request, name, machine)
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
        if asked.ring_degree is not None or ring_degree > _LARGEST_RING:
            return


def _compiled(request: PlanRequest, machine: CalibratedBackend, packing: Packing, best: float) -> Plan:
    """The plan, whose costs are those of operations where it was chosen."""
    asked = request.constraints
    request = replace(request, traits=machine.traits)
    settings = settings_for(request, packing)
    if machine.profile is not None:
        request = replace(request, costs=operation_costs(machine.profile, settings.params, rtt_ms=asked.rtt_ms))
    if best < math.inf:
        most = HOPELESS * best
        if emitted_cost(request, packing, settings, most=most) > most:
            raise HopelessPacking(
                f"Planner: {packing.name} costs more than {HOPELESS:g} times as much as what is known already.",
                hint="Ask for it by name (--packing) to see what it costs.",
            )
    return compile_request(request, packing)


def priced(plan: Plan, request: PlanRequest, name: str, machine: CalibratedBackend) -> Candidate:
    """The candidate that a plan is for the tokens of a request.

    Raises:
        PrecisionLost, BudgetExceeded, CapabilityMissing, InsecureParameters: It does not keep the constraints.
        ProfileMissing: The backend was not calibrated for such parameters.
    """
    asked, tokens = request.constraints, request.count or plan.tokens_per_run
    check_precision(plan.precision(), asked.target_bits)
    plan.check_budget(tokens, asked.budget)
    if machine.backend is not None:
        require_capabilities(machine.backend, plan)
        resolved = checked(machine.backend).resolve(plan.params)
        require_secure(resolved, security_bits=asked.security_bits, table=asked.table)
    if machine.profile is None:
        cost = plan.runs(tokens) * relative_cost(plan.program, plan.costs)
        return Candidate(name, plan.packing.name, plan, cost=cost)
    prediction = predict(plan, machine.profile, tokens=tokens, rtt_ms=asked.rtt_ms)
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
    requests: Sequence[PlanRequest], machines: Mapping[str, CalibratedBackend], packings: Sequence[Packing]
) -> str:
    """The backend on which all requests together are predicted to take least time.

    Args:
        requests: What is to run; each of its numbers of tokens counts once.
        machines: Backends by name, one or more; costs of calibrated and of other ones do not compare.
        packings: The strategies to consider.

    Raises:
        NothingEligible: Some request can run on none of them.
    """
    names = list(machines)
    if len(names) == 1:
        return names[0]
    totals = dict.fromkeys(names, 0.0)
    single = [replace(each, module=None, tokens=(tokens,)) for each in requests for tokens in each.tokens or (1,)]
    times = Counter((each.shape, each.tokens) for each in single)
    for key, request in {(each.shape, each.tokens): each for each in single}.items():
        ranked = rank(request, machines, packings)
        choose(ranked)
        for name in names:
            totals[name] += times[key] * min(each.cost for each in ranked if each.backend == name)
    return min(names, key=lambda name: totals[name])
