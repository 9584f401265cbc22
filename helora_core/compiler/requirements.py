"""What a plan needs of a backend, held against what the backend can."""

from __future__ import annotations

from helora_core.backend.capabilities import Encoding, RescaleMode
from helora_core.backend.encodings import can_encode
from helora_core.backend.protocol import Backend
from helora_core.compiler.plan import Plan
from helora_core.errors import CapabilityMissing


def require_capabilities(backend: Backend, plan: Plan) -> None:
    """Check that the backend can do what the plan needs.

    Raises:
        CapabilityMissing: Names the ability that is missing.
    """
    abilities = backend.capabilities
    missing = []
    for encoding in sorted({plan.program.encoding} | {spec.encoding for spec in plan.constant_specs.values()}):
        if not can_encode(encoding, abilities):
            missing.append(f"an encoding of {encoding.value.replace('_', ' ')}")
    own_scales = any(spec.scale_bits != plan.params.scale_bits for spec in plan.constant_specs.values())
    if own_scales and not abilities.free_plaintext_scale:
        missing.append("plaintext scales of their own")
    if _needs_exact_integers(plan) and not abilities.exact_integers:
        missing.append("exact integers")
    if plan.needs_public_key and not abilities.public_key:
        missing.append("public-key encryption at the server")
    if plan.needs_public_key and abilities.rescale is not RescaleMode.EXPLICIT:
        missing.append("levels and scales that the program decides")
    if missing:
        raise CapabilityMissing(
            f"Backend {backend.name} lacks {', '.join(missing)}, which plan {plan.packing.name} {plan.shape} needs.",
            hint="Choose another backend; `helora backends` lists what each can do.",
        )


def _needs_exact_integers(plan: Plan) -> bool:
    """Whether coefficients are masked: through doubles, weights would stand in what rounding leaves of them."""
    return plan.program.encoding is Encoding.COEFFICIENTS and plan.needs_public_key
