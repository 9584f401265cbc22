"""A module's plan in each ring degree: the table behind ``helora plan --rings``."""

from __future__ import annotations

from dataclasses import dataclass

from helora_core.compiler.compile import compile_request
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import PlanRequest
from helora_core.errors import HeloraError
from helora_core.packing.protocol import Packing
from helora_core.params.security import load_table


@dataclass(frozen=True)
class RingOption:
    """One ring degree, with the plan, or with the refusal that says why there is none."""

    ring_degree: int
    plan: Plan | None
    refusal: HeloraError | None


def ring_options(request: PlanRequest, packing: Packing) -> list[RingOption]:
    """Compile the module for every ring degree of the security table, without checking what its results show."""
    asked = request.constraints
    options = []
    for ring_degree in load_table(asked.table).rings(asked.security_bits):
        try:
            plan = compile_request(request.within(ring_degree=ring_degree, private_weights=False), packing)
            options.append(RingOption(ring_degree, plan, None))
        except HeloraError as refusal:
            options.append(RingOption(ring_degree, None, refusal))
    return options
