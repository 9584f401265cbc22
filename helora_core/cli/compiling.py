"""Plans as the options ask for them: by the packing named, or by the planner's choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helora_core.adapter.lora import LoRAModule, ModuleShape
    from helora_core.cli.options import Execution
    from helora_core.compiler.plan import Plan
    from helora_core.compiler.plan_cache import PlanCache
    from helora_core.planning.planner import CalibratedBackend, Candidate, Constraints

    CompileShape = Callable[[ModuleShape, int | None, LoRAModule | None], Plan]

AUTO = "auto"


def constraints(execution: Execution) -> Constraints:
    """What the options demand of a plan."""
    from helora_core.planning.planner import Constraints

    return Constraints(
        private_weights=execution.private_weights,
        sanitize_bits=execution.sanitize_bits,
        budget=execution.budget,
        rtt_ms=execution.rtt_ms,
        target_bits=execution.target_bits,
        ring_degree=execution.ring,
        security_bits=int(execution.security),
        table=execution.security_table,
    )


def machines(execution: Execution) -> dict[str, CalibratedBackend]:
    """The backends to plan for, with their profiles.

    The one named; else all calibrated ones that can be used here; else the one that ``auto`` would take, if any.
    """
    from helora_core.errors import BackendUnavailable
    from helora_core.host.manager import get_manager
    from helora_core.planning.planner import CalibratedBackend
    from helora_core.planning.profile import load_profile
    from helora_core.planning.selection import select_backend

    manager = get_manager()
    if execution.backend in (None, AUTO):
        usable = [
            name for name, each in manager.backends().items() if not each.availability and each.spec.provides_security
        ]
        calibrated = {name: load_profile(name) for name in usable}
        found = {
            name: CalibratedBackend(manager.load_backend(name), profile)
            for name, profile in calibrated.items()
            if profile
        }
        if found:
            return found
    try:
        name = select_backend(manager, execution.backend, allow_emulation=execution.allow_emulation).name
    except BackendUnavailable:
        if execution.backend not in (None, AUTO):
            raise
        return {}
    return {name: CalibratedBackend(manager.load_backend(name), load_profile(name))}


def on_best_machine(execution: Execution, jobs: Sequence[tuple[LoRAModule, int]]) -> Execution:
    """The options with a backend named, where the planner has to choose among several calibrated ones."""
    if execution.packing != AUTO or len(found := machines(execution)) < 2:
        return execution
    from helora_core.host.manager import get_manager
    from helora_core.planning.planner import best_machine

    manager = get_manager()
    packings = [manager.load_packing(name) for name in manager.packings()]
    return replace(execution, backend=best_machine(jobs, found, packings, constraints(execution)))


def candidates(
    shape: ModuleShape, tokens: int, execution: Execution, module: LoRAModule | None = None
) -> list[Candidate]:
    """Every packing (or the one named) on every machine, ranked."""
    from helora_core.host.manager import get_manager
    from helora_core.planning.planner import CalibratedBackend, rank

    manager = get_manager()
    names = manager.packings() if execution.packing == AUTO else [execution.packing]
    packings = [manager.load_packing(name) for name in names]
    found = machines(execution) or {"": CalibratedBackend(None, None)}
    return rank(shape, tokens, found, packings, constraints(execution), module=module)


def plan_compiler(execution: Execution) -> CompileShape:
    """What compiles a shape, for a number of tokens or the fewest, and for a module's zeros if one is given.

    Raises:
        LeakageRefused: The packing named shows weights to the key holder, and they are to be private.
    """
    from helora_core.host.manager import get_manager
    from helora_core.planning.planner import choose

    manager = get_manager()
    if execution.packing != AUTO:
        _check_leakage(execution)

    def compile_shape(shape: ModuleShape, tokens: int | None, module: LoRAModule | None) -> Plan:
        if execution.packing == AUTO:
            plan = choose(candidates(shape, tokens or 1, execution, module)).plan
            assert plan is not None  # an eligible candidate has one
        else:
            plan = _compile_named(shape, tokens, module, execution)
        manager.notify_plan_compiled(plan)
        return plan

    return compile_shape


def _compile_named(shape: ModuleShape, tokens: int | None, module: LoRAModule | None, execution: Execution) -> Plan:
    from helora_core.compiler.compile import compile_plan
    from helora_core.host.manager import get_manager
    from helora_core.params.noise import NoiseModel

    abilities = [each.backend.capabilities for each in machines(execution).values() if each.backend is not None]
    return compile_plan(
        shape,
        get_manager().load_packing(execution.packing),
        tokens=tokens,
        ring_degree=execution.ring,
        security_bits=int(execution.security),
        table=execution.security_table,
        precision_bits=execution.target_bits,
        private_weights=execution.private_weights,
        sanitize_bits=execution.sanitize_bits,
        free_scales=all(each.free_plaintext_scale for each in abilities),
        noise_model=NoiseModel.noisiest(each.noise_model for each in abilities),
        module=module,
    )


def plan_cache(execution: Execution) -> PlanCache:
    """Compiles what is to run, within the budget that was asked for.

    Raises:
        LeakageRefused: As ``plan_compiler`` does. The cache itself raises ``BudgetExceeded``.
    """
    from helora_core.compiler.plan_cache import PlanCache

    compile_shape = plan_compiler(execution)

    def compile_module(module: LoRAModule, tokens: int) -> Plan:
        plan = compile_shape(module.shape, tokens, module)
        check_budget(plan, tokens, execution, module)
        return plan

    return PlanCache(compile_module)


def for_batches(plan: Plan, execution: Execution, module: LoRAModule | None) -> Callable[[int], Plan]:
    """What compiles for other numbers of tokens as ``plan`` was compiled: its packing, its ring."""
    from helora_core.compiler.compile import compile_plan

    return lambda tokens: compile_plan(
        plan.shape,
        plan.packing,
        tokens=tokens,
        ring_degree=plan.params.ring_degree,
        security_bits=int(execution.security),
        table=execution.security_table,
        precision_bits=execution.target_bits,
        private_weights=execution.private_weights,
        sanitize_bits=plan.sanitize_bits,
        free_scales=plan.free_scales,
        noise_model=plan.noise_model,
        module=module,
        costs=plan.costs,
    )


def check_budget(plan: Plan, tokens: int, execution: Execution, module: LoRAModule | None) -> None:
    """Hold a plan against the budget that was asked for.

    Raises:
        BudgetExceeded: With what would keep it, if any batch does.
    """
    from helora_core.compiler.batch import smallest_batch
    from helora_core.errors import BudgetExceeded

    try:
        plan.check_budget(tokens, execution.budget)
    except BudgetExceeded as error:
        enough = smallest_batch(for_batches(plan, execution, module), execution.budget)
        said = f"Module {plan.shape}, {tokens} tokens: {error.message}"
        if enough is None:
            raise BudgetExceeded(said, hint=error.hint) from error
        batch, fitting = enough
        raise BudgetExceeded(
            said,
            hint=f"It fits from {batch} tokens run together ({fitting.tokens_per_run} a run, with "
            f"{fitting.counts.rotations} rotations); or raise the budget.",
        ) from error


def _check_leakage(execution: Execution) -> None:
    from helora_core.host.manager import get_manager
    from helora_core.privacy.policy import keeps_weights_private, require_private_weights

    manager = get_manager()
    strategy = manager.load_packing(execution.packing)
    if not execution.private_weights:
        return
    others = [name for name in manager.packings() if keeps_weights_private(manager.load_packing(name).leakage)]
    require_private_weights(strategy.name, strategy.leakage, sanitize_bits=execution.sanitize_bits, qualifying=others)
