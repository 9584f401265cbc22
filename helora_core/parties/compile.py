"""From an adapter to what both parties are made of, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helora_core.adapter.combine import compact, stack
from helora_core.adapter.load import load_adapter
from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.adapter.sharing import input_groups
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.host.manager import get_manager
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.planning.compiling import AUTO, CompileOptions, on_best_machine, plan_cache
from helora_core.planning.planner import Constraints
from helora_core.planning.selection import select_backend


def compile(
    adapter: LoRAAdapter | str | Path,
    *,
    tokens: int | None = None,
    modules: str = "all",
    constraints: Constraints | None = None,
    backend: str | None = None,
    packing: str = AUTO,
    share: bool = True,
    allow_emulation: bool = False,
) -> CompiledLoRA:
    """Compile an adapter's modules: plans for the backend that can run them best. Nothing is encrypted yet.

    Args:
        adapter: An adapter, or a path to one in any container that helora reads.
        tokens: Tokens that will be run together, which plans are chosen for; the fewest if None.
        modules: A module by its name or the ending of names; ``all`` for all.
        constraints: What every plan has to keep. The defaults keep the weights private.
        backend: Name of the backend; the best that can run the plans if None.
        packing: Name of the packing; ``auto`` for the one predicted to take least time.
        share: Run modules of a layer that get one input (q, k and v; gate and up) as one.
        allow_emulation: Let a backend be chosen that encrypts nothing.

    Raises:
        AdapterFormatError: The adapter cannot be read.
        InvalidInput: No module is called so.
        NothingEligible, BudgetExceeded, PrecisionLost, …: No plan keeps the constraints.
        LeakageRefused: The packing shows weights to the key holder, and they are to be private.
        BackendUnavailable: No backend that encrypts can run the plans.
    """
    loaded = adapter if isinstance(adapter, LoRAAdapter) else load_adapter(Path(adapter))
    chosen = {module.name: module for module in loaded.select(modules)}
    groups = input_groups(list(chosen)) if share else [[name] for name in chosen]
    options = CompileOptions(
        constraints=constraints or Constraints(), backend=backend, packing=packing, allow_emulation=allow_emulation
    )
    return compile_groups([[chosen[name] for name in group] for group in groups], tokens, options)


def compile_groups(groups: Sequence[Sequence[LoRAModule]], tokens: int | None, options: CompileOptions) -> CompiledLoRA:
    """Compile groups of modules that share an input, each group as one module; errors as of ``compile``."""
    stacked = [compact(stack(group)) for group in groups]
    options = on_best_machine(options, [(module, tokens or 1) for module in stacked])
    plans = plan_cache(options)
    compiled = tuple(
        CompiledModule(
            module,
            tuple(Part(name=part.name, d_out=part.shape.d_out) for part in group),
            plans.plan(module, tokens),
        )
        for module, group in zip(stacked, groups, strict=True)
    )
    manager = get_manager()
    selection = select_backend(
        manager,
        options.backend,
        plans=[each.plan for each in compiled],
        allow_emulation=options.allow_emulation,
    )
    return CompiledLoRA(
        compiled,
        manager.load_backend(selection.name),
        secure=selection.secure,
        private_weights=options.constraints.private_weights,
    )
