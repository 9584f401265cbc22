"""What a program costs, counted off the program itself, and budgets that costs are held against."""

from __future__ import annotations

import math

import msgspec

from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.ir import OpKind, Program, additions, products
from helora_core.errors import BudgetExceeded
from helora_core.packing.costs import OperationCosts


def count_operations(program: Program) -> OperationCounts:
    """The operations of one execution: exactly what the ledger must show afterwards."""
    kinds = [op.kind for op in program.ops]
    asked = [op for op in program.ops if op.kind is OpKind.ASK_CLIENT]
    return OperationCounts(
        rotations=kinds.count(OpKind.ROTATE),
        keyswitches=kinds.count(OpKind.ROTATE),
        ct_pt=sum(map(products, program.ops)),
        additions=sum(map(additions, program.ops)),
        rescales=kinds.count(OpKind.RESCALE),
        sanitizes=kinds.count(OpKind.SANITIZE) + kinds.count(OpKind.MASK),
        encrypts=kinds.count(OpKind.INPUT) + len(asked),
        decrypts=len(program.results) + sum(len(op.args) for op in asked),
    )


def relative_cost(program: Program, costs: OperationCosts) -> float:
    """What one execution costs, by weights that do not know of levels: to choose between programs."""
    counts = count_operations(program)
    scalars = sum(len(op.args) for op in program.ops if op.kind is OpKind.DOT_SCALARS)
    further = sum(len(group) - 1 for group in program.hoisted_groups())
    return (
        costs.rotate * (counts.rotations - further)
        + costs.rotate_further * further
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
    """Upper bounds per token. The defaults are what interactive use bears on a CPU."""

    rotations: float = 16
    keyswitches: float = 16
    rescales: float = 8


def check_budget(counts: OperationCounts, *, tokens: int, budget: Budget | None = None) -> None:
    """Hold the counts of a run over ``tokens`` tokens, predicted or executed, against a budget.

    Raises:
        BudgetExceeded: Names each cost that is over, by how much, and over how many tokens the counts would have to
            spread to keep the budget.
    """
    budget = Budget() if budget is None else budget
    over = []
    tokens_needed: float = tokens
    for name in budget.__struct_fields__:
        allowed, used = getattr(budget, name), getattr(counts, name)
        if used > allowed * tokens:
            over.append(f"{used / tokens:g} {name} per token (budget {allowed:g})")
            tokens_needed = max(tokens_needed, -(-used // allowed) if allowed else math.inf)
    if over:
        raise BudgetExceeded(f"Budget: {'; '.join(over)}.", hint=_within_budget(tokens_needed))


def _within_budget(tokens_needed: float) -> str:
    if tokens_needed == math.inf:
        return "Raise the budget, or use a packing that has no such operations."
    return (
        f"Spread these operations over at least {tokens_needed:.0f} tokens (a larger ring packs more of them into a "
        "run), use a smaller rank, or raise the budget."
    )
