"""Plans as they are asked for: by the packing named, or by the planner's choice, on the backend named or the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.batch import smallest_batch
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.plan_cache import PlanCache
from helora_core.compiler.requirements import why_not_storable
from helora_core.errors import BackendUnavailable, BudgetExceeded
from helora_core.host.manager import get_manager
from helora_core.params.noise import NoiseModel
from helora_core.planning.planner import CalibratedBackend, Candidate, Constraints, best_machine, choose, rank
from helora_core.planning.profile_files import load_profile
from helora_core.planning.selection import select_backend
from helora_core.privacy.policy import keeps_weights_private, require_private_weights

CompileShape = Callable[[ModuleShape, int | None, LoRAModule | None], Plan]

AUTO = "auto"


@dataclass(frozen=True)
class CompileOptions:
    """How modules are to be compiled.

    Attributes:
        constraints: What every plan has to keep.
        backend: Name of the backend; None or ``auto`` for the best that can run the plans.
        packing: Name of the packing; ``auto`` for the one predicted to take least time.
        allow_emulation: Let ``auto`` fall back to a backend that encrypts nothing.
        storable: Choose only among packings whose plans run without the adapter.
    """

    constraints: Constraints = field(default_factory=Constraints)
    backend: str | None = None
    packing: str = AUTO
    allow_emulation: bool = False
    storable: bool = False


def machines(options: CompileOptions) -> dict[str, CalibratedBackend]:
    """The backends to plan for, with their profiles.

    The one named; else all calibrated ones that can be used here; else the one that ``auto`` would take, if any.
    """
    manager = get_manager()
    if options.backend in (None, AUTO):
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
        name = select_backend(manager, options.backend, allow_emulation=options.allow_emulation).name
    except BackendUnavailable:
        if options.backend not in (None, AUTO):
            raise
        return {}
    return {name: CalibratedBackend(manager.load_backend(name), load_profile(name))}


def on_best_machine(options: CompileOptions, jobs: Sequence[tuple[LoRAModule, int]]) -> CompileOptions:
    """The options with a backend named, where the planner has to choose among several calibrated ones."""
    if options.packing != AUTO or len(found := machines(options)) < 2:
        return options
    manager = get_manager()
    packings = [manager.load_packing(name) for name in manager.packings()]
    return replace(options, backend=best_machine(jobs, found, packings, options.constraints))


def candidates(
    shape: ModuleShape, tokens: int, options: CompileOptions, module: LoRAModule | None = None
) -> list[Candidate]:
    """Every packing (or the one named) on every machine, ranked."""
    manager = get_manager()
    names = manager.packings() if options.packing == AUTO else [options.packing]
    packings = [manager.load_packing(name) for name in names]
    if options.storable and options.packing == AUTO:
        packings = [packing for packing in packings if why_not_storable(packing) is None]
    found = machines(options) or {"": CalibratedBackend(None, None)}
    return rank(shape, tokens, found, packings, options.constraints, module=module)


def plan_compiler(options: CompileOptions) -> CompileShape:
    """What compiles a shape, for a number of tokens or the fewest, and for a module's zeros if one is given.

    Raises:
        LeakageRefused: The packing named shows weights to the key holder, and they are to be private.
    """
    manager = get_manager()
    if options.packing != AUTO:
        _check_leakage(options)

    def compile_shape(shape: ModuleShape, tokens: int | None, module: LoRAModule | None) -> Plan:
        if options.packing == AUTO:
            plan = choose(candidates(shape, tokens or 1, options, module)).plan
            assert plan is not None  # an eligible candidate has one
        else:
            plan = _compile_named(shape, tokens, module, options)
        manager.notify_plan_compiled(plan)
        return plan

    return compile_shape


def _compile_named(shape: ModuleShape, tokens: int | None, module: LoRAModule | None, options: CompileOptions) -> Plan:
    abilities = [each.backend.capabilities for each in machines(options).values() if each.backend is not None]
    return compile_plan(
        shape,
        get_manager().load_packing(options.packing),
        tokens=tokens,
        ring_degree=options.constraints.ring_degree,
        security_bits=options.constraints.security_bits,
        table=options.constraints.table,
        precision_bits=options.constraints.target_bits,
        private_weights=options.constraints.private_weights,
        sanitize_bits=options.constraints.sanitize_bits,
        free_scales=all(each.free_plaintext_scale for each in abilities),
        noise_model=NoiseModel.noisiest(each.noise_model for each in abilities),
        module=module,
    )


def plan_cache(options: CompileOptions) -> PlanCache:
    """Compiles what is to run, within the budget that was asked for.

    Raises:
        LeakageRefused: As ``plan_compiler`` does. The cache itself raises ``BudgetExceeded``.
    """
    compile_shape = plan_compiler(options)

    def compile_module(module: LoRAModule, tokens: int | None) -> Plan:
        plan = compile_shape(module.shape, tokens, module)
        check_budget(plan, tokens or plan.tokens_per_run, options, module)
        return plan

    return PlanCache(compile_module)


def for_batches(plan: Plan, options: CompileOptions, module: LoRAModule | None) -> Callable[[int], Plan]:
    """What compiles for other numbers of tokens as ``plan`` was compiled: its packing, its ring."""
    return lambda tokens: compile_plan(
        plan.shape,
        plan.packing,
        tokens=tokens,
        ring_degree=plan.params.ring_degree,
        security_bits=options.constraints.security_bits,
        table=options.constraints.table,
        precision_bits=options.constraints.target_bits,
        private_weights=options.constraints.private_weights,
        sanitize_bits=plan.sanitize_bits,
        free_scales=plan.free_scales,
        noise_model=plan.noise_model,
        module=module,
        costs=plan.costs,
    )


def check_budget(plan: Plan, tokens: int, options: CompileOptions, module: LoRAModule | None) -> None:
    """Hold a plan against the budget that was asked for.

    Raises:
        BudgetExceeded: With what would keep it, if any batch does.
    """
    try:
        plan.check_budget(tokens, options.constraints.budget)
    except BudgetExceeded as error:
        enough = smallest_batch(for_batches(plan, options, module), options.constraints.budget)
        said = f"Module {plan.shape}, {tokens} tokens: {error.message}"
        if enough is None:
            raise BudgetExceeded(said, hint=error.hint) from error
        batch, fitting = enough
        raise BudgetExceeded(
            said,
            hint=f"It fits from {batch} tokens run together ({fitting.tokens_per_run} a run, with "
            f"{fitting.counts.rotations} rotations); or raise the budget.",
        ) from error


def _check_leakage(options: CompileOptions) -> None:
    manager = get_manager()
    strategy = manager.load_packing(options.packing)
    if not options.constraints.private_weights:
        return
    others = [name for name in manager.packings() if keeps_weights_private(manager.load_packing(name).leakage)]
    require_private_weights(
        strategy.name, strategy.leakage, sanitize_bits=options.constraints.sanitize_bits, qualifying=others
    )
