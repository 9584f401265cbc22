"""A cache of plans: modules of one shape and one pattern of zeros share theirs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from helora_core.compiler.plan import Plan
from helora_core.compiler.request import PlanRequest
from helora_core.compiler.zeros import zero_pattern

Compile = Callable[[PlanRequest], "tuple[Plan, ...]"]
"""Makes the plans of a request: one, or one for each of its numbers of tokens."""


class PlanCache:
    """Compiles on demand and keeps the plans used last. Each number of tokens has its own plan.

    Args:
        compile_plans: Makes plans that are not cached yet.
        capacity: Number of requests whose plans are kept.
    """

    def __init__(self, compile_plans: Compile, *, capacity: int = 256) -> None:
        self._compile = compile_plans
        self._capacity = capacity
        self._plans: OrderedDict[tuple[PlanRequest, bytes], tuple[Plan, ...]] = OrderedDict()

    def plans(self, request: PlanRequest) -> tuple[Plan, ...]:
        """The plans of a request, with the exponent of its module; errors are those of the compiler."""
        module = request.module
        key = (replace(request, module=None), b"" if module is None else zero_pattern(module))
        if key not in self._plans:
            self._plans[key] = self._compile(request)
            if len(self._plans) > self._capacity:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        plans = self._plans[key]
        return plans if module is None else tuple(plan.for_module(module) for plan in plans)

    def __len__(self) -> int:
        return len(self._plans)
