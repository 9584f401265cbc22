"""Plans by what they depend on: modules of one shape and one pattern of zeros share theirs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.plan import Plan
from helora_core.compiler.zeros import zero_pattern

Compile = Callable[[LoRAModule, "int | None"], Plan]
"""Makes the plan for a module and a number of tokens to run together, or the fewest."""


class PlanCache:
    """Compiles on demand and keeps the plans used last. A batch of another size is another plan.

    Args:
        compile_module: Makes a plan that is not there yet.
        capacity: How many plans to keep.
    """

    def __init__(self, compile_module: Compile, *, capacity: int = 256) -> None:
        self._compile = compile_module
        self._capacity = capacity
        self._plans: OrderedDict[tuple[ModuleShape, bytes, int | None], Plan] = OrderedDict()

    def plan(self, module: LoRAModule, tokens: int | None) -> Plan:
        """The plan to run ``tokens`` tokens through ``module``, with its exponent; errors are those of the compiler."""
        key = (module.shape, zero_pattern(module), tokens)
        if key not in self._plans:
            self._plans[key] = self._compile(module, tokens)
            if len(self._plans) > self._capacity:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key].for_module(module)

    def __len__(self) -> int:
        return len(self._plans)
