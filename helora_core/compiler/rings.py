"""What each ring degree would make of a module: the table behind ``helora plan --rings``."""

from __future__ import annotations

from dataclasses import dataclass

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.settings import DEFAULT_PRECISION_BITS
from helora_core.errors import HeloraError
from helora_core.packing.protocol import Packing
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, load_table


@dataclass(frozen=True)
class RingOption:
    """One ring degree: the plan, or the refusal that says why there is none."""

    ring_degree: int
    plan: Plan | None
    refusal: HeloraError | None


def ring_options(
    shape: ModuleShape,
    packing: Packing,
    *,
    precision_bits: float = DEFAULT_PRECISION_BITS,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
    sanitize_bits: int | None = None,
) -> list[RingOption]:
    """Compile the module for every ring degree of the security table."""
    options = []
    for ring_degree in load_table(table).rings(security_bits):
        try:
            plan = compile_plan(
                shape,
                packing,
                ring_degree=ring_degree,
                precision_bits=precision_bits,
                security_bits=security_bits,
                table=table,
                sanitize_bits=sanitize_bits,
                private_weights=False,
            )
            options.append(RingOption(ring_degree, plan, None))
        except HeloraError as refusal:
            options.append(RingOption(ring_degree, None, refusal))
    return options
