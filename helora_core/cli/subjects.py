"""The subjects of ``helora plan``: modules of an adapter, a shape, or the shapes of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from helora_core.cli.groups import closest

if TYPE_CHECKING:
    from helora_core.adapter.lora import LoRAModule, ModuleShape
    from helora_core.cli.options import Execution
    from helora_core.compiler.request import PlanRequest


@dataclass(frozen=True)
class Subject:
    """One thing to plan for.

    Attributes:
        shape: Its shape.
        module: Its weights, whose zeros may be left out; None for a bare shape.
        parts: The shapes of the modules that it was made of; its own shape if it is a single one.
        names: Their names in the adapter, if there is one.
    """

    shape: ModuleShape
    module: LoRAModule | None
    parts: tuple[ModuleShape, ...]
    names: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[ModuleShape, bytes]:
        """Everything that its plan depends on."""
        from helora_core.compiler.zeros import zero_pattern

        return self.shape, b"" if self.module is None else zero_pattern(self.module)

    def request(self, execution: Execution, tokens: tuple[int, ...] = ()) -> PlanRequest:
        """The request to the planner."""
        from helora_core.compiler.request import PlanRequest

        return PlanRequest(shape=self.shape, module=self.module, **execution.wishes(tokens))

    def parts_alone(self, execution: Execution) -> list[PlanRequest]:
        """The same for each part on its own."""
        from helora_core.compiler.request import PlanRequest

        return [PlanRequest(shape=shape, **execution.wishes()) for shape in self.parts]


def subjects(
    adapter: Path | None, module_name: str, shape: str | None, model: str | None, *, share: bool
) -> dict[str | None, Subject]:
    """Everything to plan for, by name; exactly one of ``adapter``, ``shape`` and ``model`` is given.

    Raises:
        InvalidInput, AdapterFormatError: The shape or the adapter cannot be read.
        click.BadParameter: There is no such model.
    """
    from helora_core.adapter.combine import compact, stack
    from helora_core.adapter.load import load_adapter
    from helora_core.adapter.lora import ModuleShape
    from helora_core.adapter.names import close_names, matches
    from helora_core.adapter.sharing import input_groups
    from helora_core.adapter.synthetic import LLM_SHAPES

    if shape is not None:
        parsed = ModuleShape.parse(shape)
        return {None: Subject(parsed, None, (parsed,))}
    if model is not None:
        if model not in LLM_SHAPES:
            raise click.BadParameter(f"there is no {model!r}. {closest(model, list(LLM_SHAPES))}", param_hint="--model")
        shapes = {
            name: each for name, each in LLM_SHAPES[model] if module_name in ("all", name) or matches(name, module_name)
        }
        if not shapes:
            names = [name for name, _ in LLM_SHAPES[model]]
            close = close_names(module_name, names)
            what = f"Did you mean {', '.join(close)}?" if close else f"It has {', '.join(names)}."
            raise click.BadParameter(f"{model} has no module {module_name!r}. {what}", param_hint="--module")
        groups = input_groups(list(shapes)) if share else [[name] for name in shapes]
        return {_together(names): _of_shapes([shapes[name] for name in names]) for names in groups}
    if adapter is None:
        raise click.UsageError("Give one of --adapter PATH, --shape D_IN:D_OUT:R and --model NAME.")
    modules = {module.name: module for module in load_adapter(adapter).select(module_name)}
    groups = input_groups(list(modules)) if share else [[name] for name in modules]
    stacked = [stack([modules[name] for name in names]) for names in groups]
    return {
        module.name: Subject(
            compact(module).shape, compact(module), tuple(modules[name].shape for name in names), tuple(names)
        )
        for module, names in zip(stacked, groups, strict=True)
    }


def _of_shapes(shapes: list[ModuleShape]) -> Subject:
    from helora_core.adapter.lora import ModuleShape

    together = ModuleShape(
        d_in=shapes[0].d_in,
        d_out=sum(shape.d_out for shape in shapes),
        rank=sum(shape.rank for shape in shapes),
    )
    return Subject(together, None, tuple(shapes))


def _together(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    parent = names[0].rpartition(".")[0]
    return f"{parent}.{{{','.join(name.rpartition('.')[2] for name in names)}}}"
