"""A plan as data, from which another process makes the same plan: the choices, and nothing that follows from them.

Levels, scales, counts, security and digest are worked out again. The layout is the one that the installed packing makes
for the same shape with the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import annotate
from helora_core.compiler.compile import lower
from helora_core.compiler.ir import Program
from helora_core.compiler.limits import check_shape
from helora_core.compiler.plan import Plan
from helora_core.compiler.settings import Settings
from helora_core.errors import VersionMismatch
from helora_core.packing.costs import DEFAULT_COSTS, DEFERRED_COSTS, OperationCosts
from helora_core.packing.protocol import InEitherEncoding, Layout, Packing
from helora_core.params.security import SecurityVerdict

LoadPacking = Callable[[str], Packing]
"""Gives the installed packing of a name, as ``PluginManager.load_packing``."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as data.

    Attributes:
        packing, packing_version: The strategy that it was made with.
        shape: The module's shape.
        settings: Parameters and scales.
        layout: The layout's figures.
        tokens, costs: The tokens and costs that the layout was chosen for.
        sanitize_bits: Statistical distance to which results are sanitised; None if they are sent as they are.
        security_bits, security_table: Level that the parameters were chosen for, and by which table.
        digest: The plan's digest.
        program: The server's program; None if it is the one that the compiler makes from the layout for any module.
    """

    packing: str
    packing_version: int
    shape: ModuleShape
    settings: Settings
    layout: dict[str, int]
    tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)] | None
    costs: OperationCosts
    sanitize_bits: Annotated[int, msgspec.Meta(ge=1, le=64)] | None
    security_bits: int
    security_table: str
    digest: str
    program: Program | None = None


def recipe_of(plan: Plan, *, whole: bool = False) -> Recipe:
    """The recipe of a plan. The program is left out if the compiler makes it from the rest, unless ``whole``."""
    short = Recipe(
        packing=plan.packing.name,
        packing_version=plan.packing.version,
        shape=plan.shape,
        settings=plan.settings,
        layout=dict(plan.layout.figures),
        tokens=plan.tokens,
        costs=plan.costs,
        sanitize_bits=plan.sanitize_bits,
        security_bits=plan.verdict.asked_bits,
        security_table=plan.verdict.table,
        digest=plan.digest,
    )
    if not whole and lowered(short, plan.packing, plan.layout) == plan.program:
        return short
    return msgspec.structs.replace(short, program=plan.program)


def lowered(recipe: Recipe, packing: Packing, layout: Layout) -> Program:
    """The program that the compiler makes from a layout for any module: nothing is left out for zeros."""
    *_, last = lower(layout, packing, recipe.settings, sanitize_bits=recipe.sanitize_bits)
    return last.program


def remade(recipe: Recipe, load_packing: LoadPacking, verdict: SecurityVerdict) -> Plan:
    """The plan of a recipe, not yet for a module.

    Args:
        recipe: The result of ``recipe_of``; everything that can be worked out is worked out again, not trusted.
        load_packing: Gives the installed packing of a name.
        verdict: The security table's verdict on the parameters.

    Raises:
        VersionMismatch: The installed packing or compiler makes another plan.
        InvalidProgram, InvalidParameters, ScaleMismatch, LevelExhausted, …: The program breaks a law.
        PackingUnavailable, PluginLoadError: The packing is not installed, or broken.
    """
    packing = load_packing(recipe.packing)
    if packing.version != recipe.packing_version:
        raise VersionMismatch(
            f"made with version {recipe.packing_version} of packing {recipe.packing}; "
            f"version {packing.version} is installed.",
            hint="Compile the adapter again, or install the version that it was compiled with.",
        )
    check_shape(recipe.shape)
    packing, layout = _layout(recipe, packing)
    program = lowered(recipe, packing, layout) if recipe.program is None else recipe.program
    plan = Plan(
        packing=packing,
        shape=recipe.shape,
        layout=layout,
        settings=recipe.settings,
        program=program,
        values=annotate(program, recipe.settings.params, recipe.settings.scales),
        verdict=verdict,
        sanitize_bits=recipe.sanitize_bits,
        tokens=recipe.tokens,
        costs=recipe.costs,
    )
    _ = plan.correlation  # refuses a grid that is none, and bits that a plan cannot do without
    if plan.digest != recipe.digest:
        raise VersionMismatch(
            f"states plan {recipe.digest[:12]}…, but the installed version makes plan {plan.digest[:12]}… from it.",
            hint="Another version of helora made it, or it was changed: use one version, or compile the adapter again.",
        )
    return plan


def _layout(recipe: Recipe, packing: Packing) -> tuple[Packing, Layout]:
    """The layout, with the packing in the encoding that makes it."""
    for each in (packing, packing.in_coefficients) if isinstance(packing, InEitherEncoding) else (packing,):
        for layout in _layouts(recipe, each):
            if dict(layout.figures) == recipe.layout:
                return each, layout
    raise VersionMismatch(
        f"packing {packing.name} makes no layout with the figures {recipe.layout} for {recipe.shape}.",
        hint="The packing has changed without a new version: compile the adapter again.",
    )


def _layouts(recipe: Recipe, packing: Packing) -> Iterator[Layout]:
    """The packing's layouts now: first for the tokens and costs of the recipe, then for the defaults."""
    slots = recipe.settings.params.slots
    for tokens in dict.fromkeys((recipe.tokens, None)):
        for costs in dict.fromkeys((recipe.costs, DEFAULT_COSTS, DEFERRED_COSTS)):
            yield from packing.layouts(recipe.shape, slots, tokens=tokens, costs=costs)
