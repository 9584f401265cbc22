"""Plans for several numbers of tokens that run under one key set: prefill and decode of one module.

Each number of tokens has a plan that is best for it alone. If these differ in parameters or rotation steps, the
client makes and sends, and the server keeps, the keys of each. So *combinations* are ranked: for every parameter set
that some plan was compiled for, all plans that can run under it are priced for every number of tokens, and the
combination with the lowest price per token is chosen.

The price per token is a plan's cost for so many tokens, divided by their number, averaged over the numbers of tokens
in the request: each stands for an equal share of a client's tokens, and one that is named twice for two shares.
The price of the keys is added, for the union of all rotation steps: a byte of keys is made, sent and read like a byte
of a fresh ciphertext, and ``TOKENS_OF_A_KEY_SET`` tokens share them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from helora_core.compiler.moved import moved
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import PlanRequest
from helora_core.compiler.sizes import ciphertext_bytes, one_key_bytes
from helora_core.errors import BudgetExceeded, HeloraError, NoCommonParameters
from helora_core.packing.protocol import ModulusUse, Packing
from helora_core.params.ckks import CKKSParams
from helora_core.planning.planner import CalibratedBackend, choose, priced, rank

TOKENS_OF_A_KEY_SET = 1024
"""Tokens of each module that a client is assumed to run with one key set."""

_MOST_OPTIONS = 8
"""Most plans considered for each number of tokens under one parameter set: the cheapest ones."""


@dataclass(frozen=True)
class Option:
    """A plan for one number of tokens.

    Attributes:
        plan: The plan.
        cost: Cost per token, in milliseconds or relative.
    """

    plan: Plan
    cost: float


@dataclass(frozen=True)
class Combination:
    """A plan for each number of tokens, all under one parameter set.

    Attributes:
        plans: In ascending order of tokens; one plan may stand for several.
        cost: Cost per token, in the mean over the numbers of tokens; without the keys.
        key_bytes: Bytes of the keys for the union of all rotation steps.
        key_cost: The keys' share of the cost of a token.
    """

    plans: tuple[Plan, ...]
    cost: float
    key_bytes: int
    key_cost: float

    @property
    def total(self) -> float:
        """The price by which combinations are ranked."""
        return self.cost + self.key_cost


def plans_together(
    request: PlanRequest, name: str, machine: CalibratedBackend, packings: Sequence[Packing]
) -> tuple[Plan, ...]:
    """The plans of the best combination, one for each number of tokens in ascending order.

    Args:
        request: A request for several numbers of tokens.
        name: The backend's name.
        machine: The backend, with its profile.
        packings: The strategies to consider.

    Raises:
        NothingEligible, PrecisionLost, …: One number of tokens has no plan that keeps the constraints.
        NoCommonParameters: Each has, but none under the same parameters.
        BudgetExceeded: The keys of every combination are larger than allowed.
    """
    return ranked_together(request, name, machine, packings)[0].plans


def ranked_together(
    request: PlanRequest, name: str, machine: CalibratedBackend, packings: Sequence[Packing]
) -> list[Combination]:
    """The combinations that keep all constraints, the best first; arguments and errors as for ``plans_together``."""
    counts = list(request.each_count())
    found = _found(counts, name, machine, packings)
    possible: dict[CKKSParams, list[list[Option]]] = {}
    for params in dict.fromkeys(plan.params for plan in found):
        movable = _movable(found, params, request.constraints.target_bits)
        possible[params] = [_options(movable, count, name, machine) for count in counts]
    shared = [options for options in possible.values() if all(options)]
    if not shared:
        raise _clash(request, found, possible)
    shares = Counter(request.tokens)
    weights = [shares[each.count or 1] / len(request.tokens) for each in counts]
    combinations = [
        _combination([each.plan for each in choice], sum(map(float.__mul__, weights, (each.cost for each in choice))))
        for options in shared
        for choice in itertools.product(*options)
    ]
    most = request.constraints.budget.key_bytes
    allowed = [each for each in combinations if most is None or each.key_bytes <= most]
    if not allowed:
        least = min(each.key_bytes for each in combinations)
        raise BudgetExceeded(
            f"Module {request.shape}, {_listed(request.tokens)} tokens: the keys of all plans together have {least} "
            f"bytes or more, budget {most:g}.",
            hint="Raise --max-key-bytes, or compile for fewer numbers of tokens.",
        )
    return sorted(allowed, key=_order)


def _order(combination: Combination) -> tuple[float, int, int, list[str]]:
    """The lowest price first; relative costs ignore primes, so of equal ones the smallest modulus comes first."""
    plans = combination.plans
    return combination.total, combination.key_bytes, plans[0].params.modulus_bits, [plan.digest for plan in plans]


def _found(
    counts: Sequence[PlanRequest], name: str, machine: CalibratedBackend, packings: Sequence[Packing]
) -> list[Plan]:
    """Every plan that some number of tokens may have, each once, in the rings of all of them."""
    ranked = {count.count: rank(count, {name: machine}, packings) for count in counts}
    for candidates in ranked.values():
        choose(candidates)
    plans = {
        tokens: [each.plan for each in candidates if each.plan is not None and each.refusal is None]
        for tokens, candidates in ranked.items()
    }
    rings = {plan.params.ring_degree for each in plans.values() for plan in each}
    # Plans that run ahead of time have the ring that is best for them already; a smaller one hides less.
    online = [packing for packing in packings if packing.modulus_use is not ModulusUse.CORRELATED]
    for count in counts:
        for ring in sorted(rings - {plan.params.ring_degree for plan in plans[count.count]}):
            more = rank(count.within(ring_degree=ring), {name: machine}, online)
            plans[count.count] += [each.plan for each in more if each.plan is not None and each.refusal is None]
    return list({plan.digest: plan for each in plans.values() for plan in each}.values())


def _movable(plans: Iterable[Plan], params: CKKSParams, target_bits: float) -> list[Plan]:
    """The plans that can run under these parameters."""
    able = []
    for plan in plans:
        try:
            able.append(moved(plan, params, target_bits))
        except HeloraError:
            continue
    return able


def _options(plans: Sequence[Plan], count: PlanRequest, name: str, machine: CalibratedBackend) -> list[Option]:
    """The cheapest plans that keep the constraints for so many tokens, priced with their own keys."""
    options = []
    for plan in plans:
        try:
            cost = priced(plan, count, name, machine).cost
        except HeloraError:
            continue
        options.append(Option(plan, cost / (count.count or plan.tokens_per_run)))
    return sorted(options, key=lambda each: each.cost + _combination([each.plan], 0.0).key_cost)[:_MOST_OPTIONS]


def _combination(plans: Sequence[Plan], cost: float) -> Combination:
    params, costs = plans[0].params, plans[0].costs
    size = len({step for plan in plans for step in plan.rotation_steps}) * one_key_bytes(params)
    encryptions = size / ciphertext_bytes(params, params.max_level)
    return Combination(tuple(plans), cost, size, encryptions * costs.encrypt / TOKENS_OF_A_KEY_SET)


def _clash(
    request: PlanRequest, found: Sequence[Plan], possible: Mapping[CKKSParams, Sequence[Sequence[Option]]]
) -> NoCommonParameters:
    """The error that names numbers of tokens without common parameters: two of them, if two suffice."""
    tokens = sorted(set(request.tokens))
    able = [{count for count, options in zip(tokens, each, strict=True) if options} for each in possible.values()]
    pairs = (set(pair) for pair in itertools.combinations(tokens, 2))
    clashing = next((pair for pair in pairs if not any(pair <= each for each in able)), set(tokens))
    chains = {
        count: " or ".join(
            sorted({_chain(params) for params, each in zip(possible, able, strict=True) if count in each})
        )
        for count in clashing
    }
    return NoCommonParameters(
        f"Module {request.shape}: plans for {_listed(clashing)} tokens have no parameters in common: "
        + "; ".join(f"{count} can have {chains[count]}" for count in sorted(clashing))
        + ".",
        hint="Loosen the budget, or name a ring or a packing that suits all (--ring, --packing); or compile each "
        "number of tokens on its own, with its own key set.",
    )


def _chain(params: CKKSParams) -> str:
    return f"N={params.ring_degree} with log2(QP)={params.modulus_bits}"


def _listed(tokens: Iterable[int]) -> str:
    *first, last = map(str, sorted(set(tokens)))
    return f"{', '.join(first)} and {last}" if first else last
