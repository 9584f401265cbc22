"""Compiles an adapter in one call; the client and the server are made from the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helora_core.adapter.combine import compact, stack
from helora_core.adapter.load import load_adapter
from helora_core.adapter.lora import LoRAAdapter, LoRAModule, ModuleShape
from helora_core.adapter.sharing import input_groups
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.request import AUTO, Constraints, PlanRequest
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.planning.compiling import on_best_machine, plan_cache
from helora_core.planning.selection import PassedOver, select_backend


def compile(
    adapter: LoRAAdapter | str | Path,
    *,
    tokens: int | Sequence[int] | None = None,
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
        tokens: Tokens that will be run together, which plans are chosen for; the fewest if None. Several numbers,
            ``(1, 64)`` for decode and prefill, give each module a plan for each, all with equal parameters, so that one
            key set serves them. The combination with the lowest cost per token is chosen: in the mean over the numbers
            as they are given (one that is given twice counts twice), with the keys' bytes shared by 1024 tokens. A
            client takes for each request the plan that is cheapest for its tokens.
        modules: A module's name or an ending of names; ``all`` for all.
        constraints: The constraints on every plan. The defaults keep the weights private.
        backend: Name of the backend; the best that can run the plans if None.
        packing: Name of the packing; ``auto`` for the one predicted to be fastest.
        share: Run modules of a layer that get one input (q, k and v; gate and up) as one. Packings that run ahead of
            time keep them apart, which is more precise: prepared and asked for together they share what is sent anyway.
        allow_emulation: Let a backend be chosen that encrypts nothing.

    Raises:
        AdapterFormatError: The adapter cannot be read.
        InvalidInput: No module has this name.
        NoCommonParameters: There are no plans of equal parameters for all numbers of tokens.
        NothingEligible, BudgetExceeded, PrecisionLost, …: No plan keeps the constraints.
        LeakageRefused: The packing shows weights to the key holder, and they must stay private; or it rests on an
            assumption that the constraints do not accept.
        BackendUnavailable: No backend that encrypts can run the plans.
    """
    loaded = adapter if isinstance(adapter, LoRAAdapter) else load_adapter(Path(adapter))
    asked = asked_of(
        loaded.select(modules),
        share=share and not _runs_ahead(packing),
        tokens=(tokens,) if isinstance(tokens, int) else tuple(tokens or ()),
        constraints=constraints or Constraints(),
        packing=packing,
        backend=backend,
        allow_emulation=allow_emulation,
    )
    compiled, chosen, _ = compiled_modules(asked)
    manager = get_manager()
    selection = select_backend(manager, chosen, plans=[each.plan for each in compiled], allow_emulation=allow_emulation)
    return CompiledLoRA(
        tuple(compiled),
        manager.load_backend(selection.name),
        secure=selection.secure,
        private_weights=asked[0].request.constraints.private_weights,
        assume=asked[0].request.constraints.assume,
        alone={each.name: each.parts_alone(selection.name) for each in asked},
    )


def _runs_ahead(packing: str) -> bool:
    return packing != AUTO and get_manager().load_packing(packing).modulus_use is ModulusUse.CORRELATED


def asked_of(modules: Sequence[LoRAModule], *, share: bool, **wishes: Any) -> list[Asked]:
    """The requests for some modules, grouped by the input that they share, or each alone.

    Args:
        modules: One or more.
        share: Whether to group them.
        wishes: Arguments of ``PlanRequest``.
    """
    named = {module.name: module for module in modules}
    groups = input_groups(list(named)) if share else [[name] for name in named]
    return [Asked.of([named[name] for name in group], **wishes) for group in groups]


@dataclass(frozen=True)
class Asked:
    """Modules that share an input, compiled as one.

    Attributes:
        request: The request for their stack.
        parts: Names and widths of the modules, in the order of their outputs.
        shapes: Their shapes.
    """

    request: PlanRequest
    parts: tuple[Part, ...]
    shapes: tuple[ModuleShape, ...]

    @classmethod
    def of(cls, group: Sequence[LoRAModule], **wishes: Any) -> Asked:
        """A group of one or more modules; ``wishes`` are arguments of ``PlanRequest``."""
        module = compact(stack(group))
        parts = tuple(Part(name=part.name, d_out=part.shape.d_out) for part in group)
        request = PlanRequest(shape=module.shape, module=module, **wishes)
        return cls(request, parts, tuple(part.shape for part in group))

    @property
    def name(self) -> str:
        """The name of the stack."""
        assert self.request.module is not None  # ``of`` gives it
        return self.request.module.name

    def parts_alone(self, backend: str | None) -> tuple[PlanRequest, ...]:
        """The request for each part on its own, for that backend."""
        alone = replace(self.request, module=None, tokens=(), backend=backend, shape=self.shapes[0])
        return tuple(replace(alone, shape=shape) for shape in self.shapes)


def compiled_modules(asked: Sequence[Asked]) -> tuple[list[CompiledModule], str | None, PassedOver]:
    """Compile requests that differ only in their modules.

    Returns:
        Each module with each of its plans; the name of the backend that they are for, if one was named or chosen; and
        if it was chosen, why those that ``auto`` prefers were not.

    Raises:
        HeloraError: As ``compile`` raises it.
    """
    requests, over = on_best_machine([each.request for each in asked])
    cache = plan_cache()
    compiled = []
    for request, each in zip(requests, asked, strict=True):
        assert request.module is not None  # ``Asked.of`` gives it
        plans = {plan.digest: plan for plan in cache.plans(request)}
        compiled += [CompiledModule(request.module, each.parts, plan) for plan in plans.values()]
    return compiled, requests[0].backend if requests else None, over
