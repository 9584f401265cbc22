"""The costs of a program, counted from the program itself, and budgets for them."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import msgspec

from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.ir import PRODUCTS, OpKind, Program, additions, describe, products
from helora_core.errors import BudgetExceeded
from helora_core.packing.costs import OperationCosts


def count_operations(program: Program) -> OperationCounts:
    """The operations of one execution; the ledger must show exactly these afterwards."""
    kinds = Counter([op.kind for op in program.ops])
    asked = [op for op in program.ops if op.kind is OpKind.ASK_CLIENT]
    return OperationCounts(
        rotations=kinds[OpKind.ROTATE],
        keyswitches=kinds[OpKind.ROTATE],
        ct_pt=sum(map(products, program.ops)),
        additions=sum(map(additions, program.ops)),
        rescales=kinds[OpKind.RESCALE],
        sanitizes=kinds[OpKind.SANITIZE] + kinds[OpKind.MASK] + kinds[OpKind.CORRELATE],
        encrypts=kinds[OpKind.INPUT] + len(asked),
        decrypts=len(program.results) + sum(len(op.args) for op in asked),
    )


_LINEAR = PRODUCTS | {OpKind.ADD}
"""Operations that give the same if the special primes are divided out after them rather than before."""


class Divisions(NamedTuple):
    """What is divided by the special primes in one execution, if every division is put off as long as possible.

    A rotation's two polynomials are not divided at first, nor are sums and products with them. To rotate such a value,
    its second polynomial has to be divided; for anything else but sums and products, both.

    Attributes:
        undivided: For each value, whether it is made undivided.
        divided: The polynomials to divide: value, and 0 or 1.
    """

    undivided: tuple[bool, ...]
    divided: frozenset[tuple[int, int]]


def least_divisions(program: Program) -> Divisions:
    """The divisions of a program, put off as long as possible."""
    undivided: list[bool] = []
    divided: set[tuple[int, int]] = set()
    for op in program.ops:
        with_special = [arg for arg in op.args if undivided[arg]]
        if op.kind is OpKind.ROTATE:
            divided.update((arg, 1) for arg in with_special)
        elif op.kind not in _LINEAR:
            divided.update((arg, polynomial) for arg in with_special for polynomial in (0, 1))
        undivided.append(op.kind is OpKind.ROTATE or (op.kind in _LINEAR and bool(with_special)))
    divided.update((result, polynomial) for result in program.results if undivided[result] for polynomial in (0, 1))
    return Divisions(tuple(undivided), frozenset(divided))


def relative_cost(program: Program, costs: OperationCosts) -> float:
    """The cost of one execution, by weights that ignore levels, to choose between programs."""
    counts = count_operations(program)
    scalars = sum(len(op.args) for op in program.ops if op.kind is OpKind.DOT_SCALARS)
    decompositions = sum(1 for _ in program.hoisted_groups())
    return (
        costs.decompose * decompositions
        + costs.key_product * counts.rotations
        + (costs.divide * len(least_divisions(program).divided) if costs.divide else 0.0)
        + costs.multiply_plain * (counts.ct_pt - scalars)
        + costs.multiply_scalar * scalars
        + costs.add * counts.additions
        + costs.rescale * counts.rescales
        + costs.sanitize * counts.sanitizes
        + costs.encrypt * counts.encrypts
        + costs.decrypt * counts.decrypts
        + costs.round_trip * (1 + sum(op.kind is OpKind.ASK_CLIENT for op in program.ops))
    )


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds. The defaults suit interactive use on a CPU; None means no bound.

    Attributes:
        rotations: Per token.
        keyswitches: Per token.
        rescales: Per token.
        bytes: Ciphertext bytes per token, up and down together.
        key_bytes: Bytes of the rotation keys, sent once.
        depth: Products that follow each other.
    """

    rotations: float | None = 16
    keyswitches: float | None = 16
    rescales: float | None = 8
    bytes: float | None = None
    key_bytes: float | None = None
    depth: float | None = None


NO_BUDGET = Budget(rotations=None, keyswitches=None, rescales=None)

_PER_TOKEN = ("rotations", "keyswitches", "rescales", "bytes")
_ONCE = ("key_bytes", "depth")


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The costs that budgets bound besides operations.

    Attributes:
        bytes: Ciphertext bytes up and down, of all runs together.
        key_bytes: Bytes of the rotation keys.
        depth: Products that follow each other.
    """

    bytes: int = 0
    key_bytes: int = 0
    depth: int = 0


def check_budget(
    counts: OperationCounts,
    *,
    tokens: int,
    budget: Budget | None = None,
    sizes: Sizes | None = None,
    program: Program | None = None,
) -> None:
    """Check the counts of a run over ``tokens`` tokens, predicted or executed, against a budget.

    Args:
        counts: Operations of all runs together.
        tokens: Tokens they were for.
        budget: The bounds; the defaults if None.
        sizes: Bytes and depth, where they are known.
        program: The program of each run, to name the first operation that goes over the budget.

    Raises:
        BudgetExceeded: Names each cost that is over, by how much, the operation that goes over it, and over how many
            tokens the counts would have to spread to keep the budget.
    """
    budget = Budget() if budget is None else budget
    used = {**msgspec.structs.asdict(counts), **msgspec.structs.asdict(sizes or Sizes())}
    over, tokens_needed = [], float(tokens)
    for name in _PER_TOKEN:
        allowed = getattr(budget, name)
        if allowed is not None and used[name] > allowed * tokens:
            over.append(
                f"{used[name] / tokens:g} {name} per token (budget {allowed:g}{_blame(name, allowed, program)})"
            )
            tokens_needed = max(tokens_needed, -(-used[name] // allowed) if allowed else math.inf)
    for name in _ONCE:
        allowed = getattr(budget, name)
        if allowed is not None and used[name] > allowed:
            over.append(f"{name.replace('_', ' ')} of {used[name]:g} (budget {allowed:g})")
            tokens_needed = math.inf
    if over:
        raise BudgetExceeded(f"Budget: {'; '.join(over)}.", hint=_within_budget(tokens_needed))


_KINDS = {"rotations": OpKind.ROTATE, "keyswitches": OpKind.ROTATE, "rescales": OpKind.RESCALE}


def _blame(name: str, allowed: float, program: Program | None) -> str:
    """The operation of a run that goes over the bound for one token: a run is for one token at least."""
    if program is None or name not in _KINDS:
        return ""
    of_kind = [i for i, op in enumerate(program.ops) if op.kind is _KINDS[name]]
    if len(of_kind) <= allowed:
        return ""
    first = of_kind[int(allowed)]
    return f"; for one token %{first} = {describe(program.ops[first])} is the first too many"


def _within_budget(tokens_needed: float) -> str:
    if tokens_needed == math.inf:
        return "Raise the budget, or use a packing that has no such operations."
    return (
        f"Spread these operations over at least {tokens_needed:.0f} tokens (a larger ring packs more of them into a "
        "run), use a smaller rank, or raise the budget."
    )
