"""Compile a module shape with a packing into a plan: choose parameters, lay out, emit, transform, check."""

from __future__ import annotations

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.builder import Builder
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.passes import PASSES
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidParameters
from helora_core.packing.protocol import Packing
from helora_core.params.choose import Requirement, choose_params
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, security_verdict

DEFAULT_PRECISION_BITS = 12.0


def compile_plan(
    shape: ModuleShape,
    packing: Packing,
    *,
    params: CKKSParams | None = None,
    ring_degree: int | None = None,
    precision_bits: float = DEFAULT_PRECISION_BITS,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
) -> Plan:
    """Compile ``packing`` for modules of ``shape``.

    Args:
        shape: d_in, d_out and rank of the module.
        packing: The strategy, as ``PluginManager.load_packing`` gives it.
        params: Use these parameters; chosen automatically if None.
        ring_degree: When choosing, take this ring rather than the smallest that will do.
        precision_bits: When choosing, bits of max|Δ| that must survive.
        security_bits: Level that parameters are chosen for, and that the plan's verdict is about.
        table: Name of the security table.

    Raises:
        SlotOverflow: The module does not fit the ring's slots.
        InvalidParameters: No ring will do, or ``params`` have too few levels for the packing.
        InvalidProgram, ScaleMismatch, LevelExhausted: The packing emitted a program that breaks a law.
    """
    if params is None:
        params = choose_params(
            Requirement(
                depth=packing.depth,
                slots=packing.min_slots(shape),
                rotates=packing.rotates,
                precision_bits=precision_bits,
                security_bits=security_bits,
                table=table,
                ring_degree=ring_degree,
            )
        )
    scales = _scales(packing, params)
    layout = packing.layout(shape, params.slots)
    builder = Builder(params.slots)
    layout.emit(builder)
    program = builder.program()
    values = annotate(program, params, scales)
    for transform in PASSES:
        program = transform(program)
        values = annotate(program, params, scales)
    verdict = security_verdict(params, security_bits=security_bits, table=table)
    return Plan(packing, shape, layout, params, scales, program, values, verdict)


def _scales(packing: Packing, params: CKKSParams) -> Scales:
    """Scales that each rescale brings back to the input's: a plaintext's is the prime dropped after its product."""
    if params.max_level < packing.depth:
        raise InvalidParameters(
            f"Packing {packing.name} rescales {packing.depth} times; the parameters have {params.max_level} levels.",
            hint=f"Use parameters with at least {packing.depth + 1} data primes.",
        )
    dropped = params.data_bits[::-1]
    return Scales(input_bits=params.scale_bits, down_bits=dropped[0], up_bits=dropped[min(1, params.max_level)])
