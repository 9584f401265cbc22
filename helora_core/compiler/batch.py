"""How many tokens must run together for a plan to keep a budget."""

from __future__ import annotations

from collections.abc import Callable

from helora_core.compiler.cost import Budget
from helora_core.compiler.plan import Plan
from helora_core.errors import BudgetExceeded

LARGEST_BATCH = 4096


def smallest_batch(compile_for: Callable[[int], Plan], budget: Budget | None = None) -> tuple[int, Plan] | None:
    """The smallest power of two of tokens whose plan keeps the budget, with that plan; None if no number to 4096 does.

    Args:
        compile_for: Gives the plan for a number of tokens.
        budget: The bounds; the defaults if None.
    """
    tokens = 1
    while tokens <= LARGEST_BATCH:
        plan = compile_for(tokens)
        try:
            plan.check_budget(tokens, budget)
        except BudgetExceeded:
            tokens *= 2
            continue
        return tokens, plan
    return None
