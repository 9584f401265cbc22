"""What a program costs, counted off the program itself, and budgets that costs are held against."""

from __future__ import annotations

import math

import msgspec

from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.ir import OpKind, Program
from helora_core.errors import BudgetExceeded


def count_operations(program: Program) -> OperationCounts:
    """The operations of one execution: exactly what the ledger must show afterwards."""
    kinds = [op.kind for op in program.ops]
    return OperationCounts(
        rotations=kinds.count(OpKind.ROTATE),
        keyswitches=kinds.count(OpKind.ROTATE),
        ct_pt=kinds.count(OpKind.MULTIPLY_PLAIN),
        additions=kinds.count(OpKind.ADD),
        rescales=kinds.count(OpKind.RESCALE),
        encrypts=kinds.count(OpKind.INPUT),
        decrypts=len(program.outputs),
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
