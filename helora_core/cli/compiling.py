"""Plans as the options ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helora_core.adapter.lora import LoRAModule
    from helora_core.cli.options import Execution
    from helora_core.compiler.plan import Plan
    from helora_core.compiler.plan_cache import PlanCache


def plan_cache(execution: Execution) -> PlanCache:
    """Compiles with the packing that was asked for, holding it to the leakage that was allowed.

    Raises:
        LeakageRefused: The packing shows weights to the key holder, and they are to be private.
    """
    from helora_core.compiler.compile import compile_plan
    from helora_core.compiler.plan_cache import PlanCache
    from helora_core.manager import get_manager
    from helora_core.privacy.policy import keeps_weights_private, require_private_weights

    manager = get_manager()
    strategy = manager.load_packing(execution.packing)
    if execution.private_weights:
        others = [name for name in manager.packings() if keeps_weights_private(manager.load_packing(name).leakage)]
        require_private_weights(
            strategy.name, strategy.leakage, sanitize_bits=execution.sanitize_bits, qualifying=others
        )

    def compile_module(module: LoRAModule, tokens: int) -> Plan:
        plan = compile_plan(
            module.shape,
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

    return PlanCache(compile_module)
