"""Compiles requests: with the packing named or the planner's choice, for the backend named or the best one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from helora_core.compiler.batch import smallest_batch
from helora_core.compiler.compile import compile_request
from helora_core.compiler.plan import Plan
from helora_core.compiler.plan_cache import PlanCache
from helora_core.compiler.request import AUTO, BackendTraits, PlanRequest
from helora_core.compiler.requirements import why_not_storable
from helora_core.compiler.settings import settings_for
from helora_core.errors import BackendUnavailable, BudgetExceeded, HeloraError, NothingEligible, ProfileMissing
from helora_core.host.manager import PluginManager, get_manager
from helora_core.host.records import RegisteredBackend
from helora_core.packing.protocol import Packing
from helora_core.planning.ahead import check_bytes
from helora_core.planning.joint import plans_together
from helora_core.planning.planner import (
    CalibratedBackend,
    Candidate,
    choose,
    compiled_within,
    predicted_totals,
    rank,
)
from helora_core.planning.profile_files import load_profile
from helora_core.planning.selection import PassedOver, passed_over, preferred_to, select_backend
from helora_core.privacy.policy import qualifies, require_accepted, require_private_weights


def machines(request: PlanRequest) -> dict[str, CalibratedBackend]:
    """The backends to plan for, with their profiles.

    The backend named; else all calibrated ones that can be used here; else the one that ``auto`` would choose, if any.
    """
    manager = get_manager()
    if request.auto_backend:
        calibrated = {name: load_profile(name, device=each.device) for name, each in _usable(manager).items()}
        found = {
            name: CalibratedBackend(manager.load_backend(name), profile)
            for name, profile in calibrated.items()
            if profile
        }
        if found:
            return found
    try:
        name = select_backend(manager, request.backend, allow_emulation=request.allow_emulation).name
    except BackendUnavailable:
        if not request.auto_backend:
            raise
        return {}
    profile = load_profile(name, device=manager.backends()[name].device)
    return {name: CalibratedBackend(manager.load_backend(name), profile)}


def _usable(manager: PluginManager) -> dict[str, RegisteredBackend]:
    """The backends that ``auto`` may take."""
    return {
        name: each
        for name, each in manager.backends().items()
        if not each.availability and each.spec.provides_security and not each.only_by_name
    }


def on_best_machine(requests: Sequence[PlanRequest]) -> tuple[list[PlanRequest], PassedOver]:
    """The requests with a backend named, if the planner has to choose among several calibrated ones, and why it passed
    over those that ``auto`` prefers to that.

    Args:
        requests: Requests to run together; they may differ only in shape, module and tokens.
    """
    if not requests or not requests[0].auto_backend:
        return list(requests), ()
    found = machines(requests[0])
    calibrated = {name: each for name, each in found.items() if each.profile is not None}
    manager = get_manager()
    if len(calibrated) == 1 and _all_before_are_uncalibrated_devices(manager, best := next(iter(calibrated))):
        return _named(requests, best), passed_over(manager, best, {})
    if len(found) < 2:
        return list(requests), ()
    # A named packing for one number of tokens is compiled for the noisiest, so that every backend can run it.
    one = requests[0].packing != AUTO and all(len(set(each.tokens)) < 2 for each in requests)
    if one and not any(manager.backends()[name].device for name in found):
        return list(requests), ()
    totals = predicted_totals(requests, found, _packings(requests[0]))
    best = min(totals, key=lambda name: totals[name])
    return _named(requests, best), passed_over(manager, best, totals)


def _named(requests: Sequence[PlanRequest], backend: str) -> list[PlanRequest]:
    return [replace(each, backend=backend) for each in requests]


def _all_before_are_uncalibrated_devices(manager: PluginManager, name: str) -> bool:
    """Whether ``auto`` prefers backends to this one, and each of those that it may take computes on a device that it
    was not calibrated on: nothing says then that it is faster there.
    """
    before = [each for each in preferred_to(manager, name) if each in _usable(manager)]
    return bool(before) and all(manager.backends()[each].device for each in before)


def candidates(request: PlanRequest) -> list[Candidate]:
    """Every packing (or the one named) on every machine, ranked."""
    return rank(request, machines(request) or _NO_MACHINE, _packings(request))


_NO_MACHINE = {"": CalibratedBackend(None, None)}


def compile_plans(request: PlanRequest) -> tuple[Plan, ...]:
    """The plans of a request: one; or for several numbers of tokens one for each in ascending order, which have equal
    parameters, so that one key set serves them all (``helora_core.planning.joint``).

    Raises:
        LeakageRefused: The packing named shows weights to the key holder, and they must stay private; or it rests on an
            assumption that is not accepted.
        BudgetExceeded: The hint names a batch that keeps the budget, if there is one.
        NoCommonParameters: No parameters suit all numbers of tokens.
        NothingEligible, PrecisionLost, …: No plan keeps the constraints.
    """
    manager = get_manager()
    if request.packing != AUTO:
        _check_leakage(request)
    if len(set(request.tokens)) > 1:
        [machine] = list((machines(on_best_machine([request])[0][0]) or _NO_MACHINE).items())
        plans = plans_together(request, *machine, _packings(request))
    elif request.packing != AUTO:
        plan = _compile_named(request)
        check_budget(plan, request.count or plan.tokens_per_run, request)
        plans = (plan,)
    else:
        chosen = _chosen(replace(request, tokens=(request.count or 1,))).plan
        assert chosen is not None  # an eligible candidate has one
        plans = (chosen,)
    for plan in {each.digest: each for each in plans}.values():
        manager.notify_plan_compiled(plan)
    return plans


def _chosen(request: PlanRequest) -> Candidate:
    """The planner's choice; if nothing can be chosen but something could if weights were not private, the hint says so.

    Raises:
        NothingEligible, CapabilityMissing, …: As ``choose`` raises them.
    """
    try:
        return choose(candidates(request))
    except NothingEligible as error:
        if not request.constraints.private_weights:
            raise
        refusal = error.with_traceback(None)  # whose frames hold every candidate
    try:
        other = choose(candidates(request.within(private_weights=False, sanitize_bits=None)))
    except HeloraError:
        raise refusal from None
    raise NothingEligible(
        refusal.message,
        hint="If the key holder may learn the weights, --no-private-weights (private_weights=False) runs it by "
        f"{other.packing}; otherwise choose another backend, or loosen a constraint. `helora explain` shows each "
        "packing's refusal.",
    ) from refusal


def plan_cache() -> PlanCache:
    """A cache that compiles once for modules of one shape and one pattern of zeros. Errors are those of
    ``compile_plans``.
    """
    return PlanCache(compile_plans)


def _packings(request: PlanRequest) -> list[Packing]:
    manager = get_manager()
    if request.packing != AUTO:
        return [manager.load_packing(request.packing)]
    packings = [manager.load_packing(name) for name in manager.packings()]
    return [each for each in packings if why_not_storable(each) is None] if request.storable else packings


def _compile_named(request: PlanRequest) -> Plan:
    """The plan of the packing named, by the times of the backend if there is one and it was calibrated."""
    found, packing = list(machines(request).values()), get_manager().load_packing(request.packing)
    abilities = [each.backend.capabilities for each in found if each.backend is not None]
    request = replace(request, traits=BackendTraits.of(abilities))
    if len(found) == 1:
        params = settings_for(request, request.traits.suited(packing)).params
        with suppress(ProfileMissing):  # then the default costs will do
            request = replace(request, costs=found[0].costs(request, params))
    return compiled_within(request, packing)


def for_batches(plan: Plan, request: PlanRequest) -> Callable[[int], Plan]:
    """A function that compiles for other numbers of tokens with ``plan``'s packing and ring."""
    alike = replace(
        request.within(ring_degree=plan.params.ring_degree, sanitize_bits=plan.sanitize_bits),
        traits=plan.traits,
        costs=plan.costs,
    )
    return lambda tokens: compile_request(replace(alike, tokens=(tokens,)), plan.packing)


def check_budget(plan: Plan, tokens: int, request: PlanRequest) -> None:
    """Check a plan against the request's budget.

    Raises:
        BudgetExceeded: The hint names a batch that keeps the budget, if there is one.
    """
    check_bytes(plan, tokens, request.constraints)
    budget = request.constraints.budget
    try:
        plan.check_budget(tokens, budget)
    except BudgetExceeded as error:
        enough = smallest_batch(for_batches(plan, request), budget)
        said = f"Module {plan.shape}, {tokens} tokens: {error.message}"
        if enough is None:
            raise BudgetExceeded(said, hint=error.hint) from error
        batch, fitting = enough
        raise BudgetExceeded(
            said,
            hint=f"It fits from {batch} tokens run together ({fitting.tokens_per_run} a run, with "
            f"{fitting.counts.rotations} rotations); or raise the budget.",
        ) from error


def _check_leakage(request: PlanRequest) -> None:
    manager, asked = get_manager(), request.constraints
    strategy = manager.load_packing(request.packing)
    require_accepted(strategy.name, strategy.leakage, asked.assume)
    if not asked.private_weights:
        return
    others = [name for name in manager.packings() if qualifies(manager.load_packing(name).leakage, asked.assume)]
    require_private_weights(strategy.name, strategy.leakage, sanitize_bits=asked.sanitize_bits, qualifying=others)
