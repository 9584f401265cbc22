"""Compile a module shape with a packing into a plan: choose parameters, lay out, emit, transform, check."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.checks import ValueInfo, annotate, check_headroom
from helora_core.compiler.grid import check_kept, require_hidden
from helora_core.compiler.ir import Program
from helora_core.compiler.limits import Meter, MeteredBuilder, cheapest, check_shape
from helora_core.compiler.passes import PASSES
from helora_core.compiler.passes.skip_zeros import skip_zeros
from helora_core.compiler.plan import Plan
from helora_core.compiler.precision import check_precision
from helora_core.compiler.request import (
    DEFAULT_PRECISION_BITS,
    USUAL_TRAITS,
    BackendTraits,
    Constraints,
    PlanRequest,
)
from helora_core.compiler.result_size import smallest_results
from helora_core.compiler.settings import Settings, settings_options, settings_within
from helora_core.compiler.zeros import support_of
from helora_core.errors import PrecisionLost
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.protocol import Layout, Packing
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, security_verdict
from helora_core.privacy.leakage import Assumption
from helora_core.privacy.policy import require_accepted, require_private_weights, settled_sanitize_bits


def compile_plan(
    shape: ModuleShape,
    packing: Packing,
    *,
    tokens: int | None = None,
    params: CKKSParams | None = None,
    ring_degree: int | None = None,
    precision_bits: float = DEFAULT_PRECISION_BITS,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
    private_weights: bool = True,
    sanitize_bits: int | None = None,
    traits: BackendTraits = USUAL_TRAITS,
    module: LoRAModule | None = None,
    costs: OperationCosts = DEFAULT_COSTS,
    assume: Collection[Assumption] = (),
) -> Plan:
    """Compile ``packing`` for modules of ``shape`` into one plan. The arguments become a ``PlanRequest``.

    Args:
        shape: d_in, d_out and rank of the module.
        packing: The packing, from ``PluginManager.load_packing``.
        tokens: Tokens that will be run together, which the layout is chosen for; None for the fewest tokens per run.
        params: Use these parameters; chosen automatically if None.
        ring_degree: When choosing, take this ring rather than the smallest one that suffices.
        precision_bits: When choosing, bits of max|Δ| that must survive by ``Plan.precision``.
        security_bits: The security level for choosing parameters and for the plan's verdict.
        table: Name of the security table.
        private_weights: Refuse a packing that shows weights to the key holder, and sanitise results. False lets the key
            holder learn the weights, which is only right if it owns the adapter.
        sanitize_bits: Re-randomise and flood results to this statistical distance; if None, 40 bits for private weights
            and otherwise not at all.
        traits: The traits of the backend: ``BackendTraits.of([backend.capabilities])``.
        module: The module to run: the plan has its exponent, and leaves out what its zeros make superfluous.
        costs: The costs of operations on the backend, to choose among layouts.
        assume: What the owner of the weights accepts as true of every client, for packings that rest on it.

    Raises:
        LeakageRefused: Weights must stay private, but the packing shows them or results are not sanitised, or sanitised
            less than asked for; or the packing rests on an assumption that is not accepted.
        InvalidInput: A number is out of its range.
        SlotOverflow: The module does not fit the ring's slots.
        ProgramTooLarge: The module, or each program for it, is too large to run.
        InvalidParameters: No ring suffices, or ``params`` have too few levels for the packing.
        PrecisionLost: No parameters that could be chosen keep the precision.
        InvalidProgram, ScaleMismatch, LevelExhausted: The packing emitted a program that breaks a law.
    """
    asked = Constraints(
        private_weights=private_weights,
        sanitize_bits=settled_sanitize_bits(private_weights, sanitize_bits),
        target_bits=precision_bits,
        ring_degree=ring_degree,
        security_bits=security_bits,
        table=table,
        assume=frozenset(assume),
    )
    request = PlanRequest(
        shape=shape,
        module=module,
        tokens=() if tokens is None else (tokens,),
        constraints=asked,
        packing=packing.name,
        traits=traits,
        costs=costs,
    )
    return compile_request(request, packing) if params is None else compile_under(request, packing, params)


def compile_request(request: PlanRequest, packing: Packing) -> Plan:
    """The plan of a packing for a request, under the cheapest parameters that keep its constraints.

    Errors are those of ``compile_plan``.
    """
    packing = request.traits.suited(packing)
    compiler = _Compiler(request, packing)
    refusal: PrecisionLost | None = None
    for settings in settings_options(request, packing):
        plan = compiler.plan(settings)
        try:
            require_sound(plan, request.constraints.wanted_bits(ahead=plan.correlation is not None))
        except PrecisionLost as error:
            refusal = refusal or error
            continue
        return plan
    raise refusal or ValueError("there were no settings to try")


def compile_under(request: PlanRequest, packing: Packing, params: CKKSParams) -> Plan:
    """The plan of a packing for a request, under given parameters; its precision is not checked.

    Errors are those of ``compile_plan``.
    """
    packing = request.traits.suited(packing)
    return _Compiler(request, packing).plan(settings_within(request, packing, params))


def require_sound(plan: Plan, target_bits: float) -> None:
    """Check that a plan keeps the bits asked for, and that no value of it wraps around.

    Raises:
        PrecisionLost: It does not.
    """
    report = plan.precision()
    if plan.correlation is not None:
        require_hidden(plan.packing.name, plan.correlation, plan.sanitize_bits)
        check_kept(plan.packing.name, plan.shape, report, target_bits)
        return
    check_precision(report, target_bits)
    check_headroom(plan.program, plan.values, plan.params, report.flood_bits, report.mask_bits)


class _Compiler:
    """Compiles one request with one packing, for one or more settings."""

    def __init__(self, request: PlanRequest, packing: Packing) -> None:
        check_shape(request.shape)
        asked = request.constraints
        require_accepted(packing.name, packing.leakage, asked.assume)
        if asked.private_weights:
            require_private_weights(packing.name, packing.leakage, sanitize_bits=asked.sanitize_bits)
        self._request, self._packing = request, packing
        self._lowered: dict[tuple[int, bool], tuple[Layout, Program]] = {}

    def plan(self, settings: Settings) -> Plan:
        """The plan under these settings."""
        request, asked = self._request, self._request.constraints
        # Other scales for the same slots do not change layout and program, only whether the program keeps the laws.
        same = (settings.params.slots, settings.rescales)
        if same not in self._lowered:
            layout, program, values = _cheapest(request, self._packing, settings)
            self._lowered[same] = layout, program
        else:
            layout, program = self._lowered[same]
            values = annotate(program, settings.params, settings.scales)
        plan = Plan(
            self._packing,
            request.shape,
            layout,
            settings,
            program,
            values,
            security_verdict(settings.params, security_bits=asked.security_bits, table=asked.table),
            asked.sanitize_bits,
            request.count,
            request.costs,
            request.traits,
        )
        plan = smallest_results(plan, asked.target_bits)
        return plan.for_module(request.module) if request.module is not None else plan


def _cheapest(
    request: PlanRequest, packing: Packing, settings: Settings
) -> tuple[Layout, Program, tuple[ValueInfo, ...]]:
    """The cheapest layout for all tokens, its program, and level and scale of the program's values."""
    best = _emitted(request, packing, settings)
    if best is None:
        raise ValueError(f"packing {packing.name} gave no layout for {request.shape}")
    _, layout, program = best
    *_, last = _transformed(program, layout, settings, request.module)
    return layout, last.program, last.values


def emitted_cost(request: PlanRequest, packing: Packing, settings: Settings, *, most: float = math.inf) -> float:
    """The tokens' cost with the packing's cheapest layout, before any pass or check: an upper bound.

    Infinite if it is more than ``most``; layouts above that are not looked at.

    Raises:
        SlotOverflow, ProgramTooLarge: As ``compile_plan`` raises them.
    """
    check_shape(request.shape)
    best = _emitted(request, packing, settings, most)
    return math.inf if best is None else best[0]


def _emitted(
    request: PlanRequest, packing: Packing, settings: Settings, most: float = math.inf
) -> tuple[float, Layout, Program] | None:
    """The cheapest layout with its cost and program; only this program is checked and transformed."""
    tokens, costs = request.count, request.costs
    layouts = packing.layouts(request.shape, settings.params.slots, tokens=tokens, costs=costs)
    return cheapest(
        layouts,
        lambda each, meter: _emit(each, packing, settings, request.constraints.sanitize_bits, meter),
        tokens=tokens,
        costs=costs,
        most=most,
    )


def _emit(
    layout: Layout, packing: Packing, settings: Settings, sanitize_bits: int | None, meter: Meter | None = None
) -> Program:
    meter = meter or Meter()
    meter.who = f"Packing {packing.name}"
    builder = MeteredBuilder(
        meter,
        settings.params.slots,
        encoding=packing.encoding,
        rescales=settings.rescales,
        sanitize_bits=sanitize_bits,
        dropped=settings.dropped,
        low_bits=settings.low_bits,
    )
    layout.emit(builder)
    return builder.program()


@dataclass(frozen=True)
class Step:
    """The program after one step of the compiler, and level and scale of its values."""

    name: str
    program: Program
    values: tuple[ValueInfo, ...]


def lower(
    layout: Layout,
    packing: Packing,
    settings: Settings,
    *,
    sanitize_bits: int | None = None,
    module: LoRAModule | None = None,
) -> Iterator[Step]:
    """Emit the program and transform it, checking the laws after each step. Each step is done when it is asked for.

    Raises:
        InvalidProgram, ScaleMismatch, LevelExhausted: The packing, or the pass named last, broke a law.
    """
    yield from _transformed(_emit(layout, packing, settings, sanitize_bits), layout, settings, module)


def _transformed(program: Program, layout: Layout, settings: Settings, module: LoRAModule | None) -> Iterator[Step]:
    """The steps of ``lower`` for a program that is already emitted."""
    step = _checked("emit", program, settings)
    yield step
    if module is not None and (support := support_of(program, layout, module)):
        step = _checked(skip_zeros.__name__, skip_zeros(program, support), settings)
        yield step
    for transform in PASSES:
        transformed = transform(step.program)
        if transformed == step.program:
            step = replace(step, name=transform.__name__)
        else:
            step = _checked(transform.__name__, transformed, settings)
        yield step


def _checked(name: str, program: Program, settings: Settings) -> Step:
    return Step(name, program, annotate(program, settings.params, settings.scales))
