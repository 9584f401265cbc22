"""Chooses packing, parameters, batch and backend by predicted cost, under constraints, and explains every refusal.

Every packing is compiled for the module, in the smallest ring that suffices and in the next one, and priced with the
backend's profile; if a plan breaks a constraint, larger rings are tried until one keeps it. If a backend was not
calibrated, relative weights are used instead, which only rank plans of one ring.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

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
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts, typical_costs
from helora_core.packing.protocol import ModulusUse, Packing
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import require_secure
from helora_core.planning.ahead import charged_runs, check_bytes
from helora_core.planning.predict import Prediction, operation_costs, predict
from helora_core.planning.profile import Profile
from helora_core.privacy.policy import qualifies, require_accepted, require_private_weights

HOPELESS = 20.0
"""A packing whose emitted program costs this many times the best so far is not compiled."""

_LARGEST_RING = 16384

_WORTH_A_LARGER_RING = 4.0
"""A ring twice as large makes operations about twice as expensive and at best halves the runs or blocks: a packing
that costs more than this many times the best is not compiled again for it."""


_OF_THE_RING = (BudgetExceeded, PrecisionLost, InsecureParameters)
"""Refusals that a larger ring may resolve: it runs more tokens together, and has a larger modulus."""

_OF_THE_PACKING = (LeakageRefused.code, HopelessPacking.code)
"""Refusals that say more about the packing than about the request."""


@dataclass(frozen=True)
class CalibratedBackend:
    """A backend with its profile on this machine. Either is None: without a calibration, or without a backend."""

    backend: Backend | None
    profile: Profile | None

    @property
    def traits(self) -> BackendTraits:
        """The traits that plans for it depend on."""
        return BackendTraits.of([] if self.backend is None else [self.backend.capabilities])

    def costs(self, request: PlanRequest, params: CKKSParams) -> OperationCosts:
        """The costs of its operations: as calibrated, else the request's or, if those are the defaults, typical ones.

        Raises:
            ProfileMissing: The profile has no figures near these parameters.
        """
        if self.profile is not None:
            return operation_costs(self.profile, params, rtt_ms=request.constraints.rtt_ms)
        if self.backend is None or request.costs != DEFAULT_COSTS:
            return request.costs
        return typical_costs(defers_division=self.backend.capabilities.defers_division)


@dataclass(frozen=True)
class Candidate:
    """One way to run a module, or the reason why it is refused.

    Attributes:
        backend: Name of the backend.
        packing: Name of the packing.
        plan: The plan, if it could be compiled.
        prediction: Its predicted time, by the backend's profile.
        cost: The cost by which candidates are ranked: milliseconds for all tokens, or relative without a profile.
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
    """Every packing on every backend: first the eligible ones, the cheapest first, then the refused ones.

    Args:
        request: The request, for one number of tokens in flight.
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
            if not _runs_ahead(packing):  # else what it is compared with would look hopeless
                best = min([best, *(option.cost for option in eligible)])
    return sorted(candidates, key=lambda each: (each.refusal is not None, each.cost))


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The first eligible candidate.

    Raises:
        NothingEligible: There is none; the message lists every refusal. If all that keep weights private fail for
            one kind of reason, that refusal itself.
    """
    if candidates and candidates[0].refusal is None:
        return candidates[0]
    telling = [each.refusal for each in candidates if each.refusal and each.refusal.code not in _OF_THE_PACKING]
    if telling and len({refusal.code for refusal in telling}) == 1:
        raise telling[0]
    found: dict[tuple[str, str], list[str]] = {}
    for each in candidates:
        if each.refusal:
            found.setdefault((each.backend, each.refusal.message.rstrip(".")), []).append(each.packing)
    reasons = "; ".join(f"{', '.join(names)} on {backend}: {reason}" for (backend, reason), names in found.items())
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
        # Relative weights ignore rings, and cannot tell whether a larger one pays off; ahead of time it never does.
        no_larger = machine.profile is None or _runs_ahead(packing)
        if found and (larger or no_larger or candidate.cost > _WORTH_A_LARGER_RING * best):
            return
        ring_degree, larger = 2 * plan.params.ring_degree, True
        if asked.ring_degree is not None or ring_degree > _LARGEST_RING:
            return


def _runs_ahead(packing: Packing) -> bool:
    return packing.modulus_use is ModulusUse.CORRELATED


def _compiled(request: PlanRequest, machine: CalibratedBackend, packing: Packing, best: float) -> Plan:
    """The plan, with the costs of operations by which it was chosen."""
    request = replace(request, traits=machine.traits)
    packing = request.traits.suited(packing)
    settings = settings_for(request, packing)
    request = replace(request, costs=machine.costs(request, settings.params))
    if best < math.inf and not _runs_ahead(packing):  # whose cost is told even where hardly anything is prepared for
        most = HOPELESS * best
        if emitted_cost(request, packing, settings, most=most) > most:
            raise HopelessPacking(
                f"Planner: {packing.name} costs more than {HOPELESS:g} times as much as what is known already.",
                hint="Ask for it by name (--packing) to see what it costs.",
            )
    return compiled_within(request, packing)


def compiled_within(request: PlanRequest, packing: Packing) -> Plan:
    """The plan of a packing by the request's costs; if that breaks the budget, the one with the fewest key switches.

    Where decompositions and divisions are shared, more key switches may take less time, and budgets count them all.
    """
    plan = compile_request(request, packing)
    fewest = msgspec.structs.replace(request.costs, decompose=0.0, divide=0.0)
    if fewest == request.costs:
        return plan
    try:
        plan.check_budget(request.count or plan.tokens_per_run, request.constraints.budget)
    except BudgetExceeded:
        return compile_request(replace(request, costs=fewest), packing)
    return plan


def priced(plan: Plan, request: PlanRequest, name: str, machine: CalibratedBackend) -> Candidate:
    """The plan as a candidate for the tokens of a request.

    Raises:
        PrecisionLost, BudgetExceeded, CapabilityMissing, InsecureParameters: It does not keep the constraints.
        ProfileMissing: The backend was not calibrated for such parameters.
    """
    asked, tokens = request.constraints, request.count or plan.tokens_per_run
    check_precision(plan.precision(), asked.wanted_bits(ahead=plan.correlation is not None))
    plan.check_budget(tokens, asked.budget)
    check_bytes(plan, tokens, asked)
    if machine.backend is not None:
        require_capabilities(machine.backend, plan)
        resolved = checked(machine.backend).resolve(plan.params)
        require_secure(resolved, security_bits=asked.security_bits, table=asked.table)
    if machine.profile is None:
        cost = charged_runs(plan, tokens, asked.ahead) * relative_cost(plan.program, plan.costs)
        return Candidate(name, plan.packing.name, plan, cost=cost)
    prediction = predict(plan, machine.profile, tokens=tokens, rtt_ms=asked.rtt_ms, ahead=asked.ahead)
    return Candidate(name, plan.packing.name, plan, prediction, prediction.total_ms)


def _check_leakage(packing: Packing, packings: Sequence[Packing], constraints: Constraints) -> None:
    require_accepted(packing.name, packing.leakage, constraints.assume)
    if constraints.private_weights:
        require_private_weights(
            packing.name,
            packing.leakage,
            sanitize_bits=constraints.sanitize_bits,
            qualifying=[each.name for each in packings if qualifies(each.leakage, constraints.assume)],
        )


def best_machine(
    requests: Sequence[PlanRequest], machines: Mapping[str, CalibratedBackend], packings: Sequence[Packing]
) -> str:
    """The backend on which all requests together are predicted to be fastest; as for ``predicted_totals``."""
    if len(machines) == 1:
        return next(iter(machines))
    totals = predicted_totals(requests, machines, packings)
    return min(totals, key=lambda name: totals[name])


def predicted_totals(
    requests: Sequence[PlanRequest], machines: Mapping[str, CalibratedBackend], packings: Sequence[Packing]
) -> dict[str, float]:
    """What all requests together cost on each backend: milliseconds, if they are calibrated.

    Args:
        requests: The requests; each of their numbers of tokens counts once.
        machines: Backends by name, one or more; costs of calibrated and of other ones are not comparable.
        packings: The strategies to consider.

    Raises:
        NothingEligible: Some request can run on none of them.
    """
    names = list(machines)
    totals = dict.fromkeys(names, 0.0)
    single = [replace(each, module=None, tokens=(tokens,)) for each in requests for tokens in each.tokens or (1,)]
    times = Counter((each.shape, each.tokens) for each in single)
    for key, request in {(each.shape, each.tokens): each for each in single}.items():
        ranked = rank(request, machines, packings)
        choose(ranked)
        for name in names:
            totals[name] += times[key] * min(each.cost for each in ranked if each.backend == name)
    return totals
