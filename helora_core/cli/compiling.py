"""Plans as the options ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helora_core.adapter.lora import LoRAModule, ModuleShape
    from helora_core.cli.options import Execution
    from helora_core.compiler.plan import Plan
    from helora_core.compiler.plan_cache import PlanCache

    CompileShape = Callable[[ModuleShape, int | None, LoRAModule | None], Plan]


def plan_compiler(execution: Execution) -> CompileShape:
    """What compiles a shape, for a number of tokens or the fewest, and for a module's zeros if one is given.

    Raises:
        LeakageRefused: The packing shows weights to the key holder, and they are to be private.
    """
    from helora_core.compiler.compile import compile_plan
    from helora_core.manager import get_manager

    manager = get_manager()
    strategy = manager.load_packing(execution.packing)
    _check_leakage(execution)

    def compile_shape(shape: ModuleShape, tokens: int | None, module: LoRAModule | None) -> Plan:
        plan = compile_plan(
            shape,
            strategy,
            tokens=tokens,
            ring_degree=execution.ring,
            security_bits=int(execution.security),
            precision_bits=execution.min_bits,
            sanitize_bits=execution.sanitize_bits,
            module=module,
        )
        manager.notify_plan_compiled(plan)
        return plan

    return compile_shape


def plan_cache(execution: Execution) -> PlanCache:
    """Compiles what is to run, within the budget that was asked for.

    Raises:
        LeakageRefused: As ``plan_compiler`` does. The cache itself raises ``BudgetExceeded``.
    """
    from helora_core.compiler.plan_cache import PlanCache

    compile_shape = plan_compiler(execution)

    def compile_module(module: LoRAModule, tokens: int) -> Plan:
        plan = compile_shape(module.shape, tokens, module)
        check_budget(plan, tokens, execution, compile_shape)
        return plan

    return PlanCache(compile_module)


def check_budget(plan: Plan, tokens: int, execution: Execution, compile_shape: CompileShape) -> None:
    """Hold a plan against the budget that was asked for.

    Raises:
        BudgetExceeded: With what would keep it, if any batch does.
    """
    from helora_core.compiler.batch import smallest_batch
    from helora_core.errors import BudgetExceeded

    try:
        plan.check_budget(tokens, execution.budget)
    except BudgetExceeded as error:
        enough = smallest_batch(lambda batch: compile_shape(plan.shape, batch, None), execution.budget)
        if enough is None:
            raise
        batch, fitting = enough
        raise BudgetExceeded(
            f"Module {plan.shape}, {tokens} tokens: {error.message}",
            hint=f"It fits from {batch} tokens run together ({fitting.tokens_per_run} a run, with "
            f"{fitting.counts.rotations} rotations); or raise the budget.",
        ) from error


def _check_leakage(execution: Execution) -> None:
    from helora_core.manager import get_manager
    from helora_core.privacy.policy import keeps_weights_private, require_private_weights

    if not execution.private_weights:
        return
    manager = get_manager()
    strategy = manager.load_packing(execution.packing)
    others = [name for name in manager.packings() if keeps_weights_private(manager.load_packing(name).leakage)]
    require_private_weights(strategy.name, strategy.leakage, sanitize_bits=execution.sanitize_bits, qualifying=others)
