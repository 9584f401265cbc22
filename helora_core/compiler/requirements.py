"""What a plan needs: capabilities of the backend, and perhaps the adapter."""

from __future__ import annotations

from helora_core.backend.capabilities import Encoding, RescaleMode
from helora_core.backend.checked_backend import CheckedBackend
from helora_core.backend.encodings import can_encode
from helora_core.backend.protocol import Backend
from helora_core.compiler.plan import Plan
from helora_core.errors import CapabilityMissing, InvalidInput
from helora_core.packing.protocol import Interactive, ModulusUse, Packing


def require_capabilities(backend: Backend | CheckedBackend, plan: Plan) -> None:
    """Check that the backend can do what the plan needs.

    Raises:
        CapabilityMissing: Names the missing capabilities.
    """
    abilities = backend.capabilities
    if plan.params.wrap_bits:
        if not abilities.correlations:
            raise CapabilityMissing(
                f"Backend {backend.name} cannot run plans ahead of time, as {plan.packing.name} {plan.shape} does.",
                hint="Choose a backend with the ability `correlations`; `helora backends` lists what each can do.",
            )
        return
    missing = []
    for encoding in sorted({plan.program.encoding} | {spec.encoding for spec in plan.constant_specs.values()}):
        if not can_encode(encoding, abilities):
            missing.append(f"an encoding of {encoding.value.replace('_', ' ')}")
    own_scales = any(spec.scale_bits != plan.params.scale_bits for spec in plan.constant_specs.values())
    if own_scales and not abilities.free_plaintext_scale:
        missing.append("plaintext scales of their own")
    if _needs_exact_integers(plan) and not abilities.exact_integers:
        missing.append("exact integers")
    otherwise = len(missing)
    if plan.needs_public_key and not abilities.public_key:
        missing.append("public-key encryption at the server")
    if plan.needs_public_key and abilities.rescale is not RescaleMode.EXPLICIT:
        missing.append("levels and scales that the program decides")
    if missing and not otherwise and plan.sanitize_bits and not isinstance(plan.layout, Interactive):
        raise CapabilityMissing(
            f"Backend {backend.name} lacks {', '.join(missing)}, by which plan {plan.packing.name} {plan.shape} "
            "sanitises its results.",
            hint="If the key holder may learn the weights, --no-private-weights (private_weights=False) leaves that "
            "out; otherwise choose another backend: `helora backends` lists what each can do.",
        )
    if missing:
        raise CapabilityMissing(
            f"Backend {backend.name} lacks {', '.join(missing)}, which plan {plan.packing.name} {plan.shape} needs.",
            hint="Choose another backend; `helora backends` lists what each can do.",
        )


def _needs_exact_integers(plan: Plan) -> bool:
    """Whether coefficients are masked: with doubles, the rounding of the results would reveal weights."""
    return plan.program.encoding is Encoding.COEFFICIENTS and plan.needs_public_key


def require_storable(plan: Plan) -> None:
    """Check that a plan can be run without the adapter.

    Raises:
        InvalidInput: Its client finishes the sum with the adapter's matrices, or its server needs them in between.
    """
    reason = why_not_storable(plan.packing)
    if reason is None and isinstance(plan.layout, Interactive):
        reason = _TWO_ROUNDS
    if reason is not None:
        raise InvalidInput(
            f"Packing {plan.packing.name} cannot be run from an artifact: {reason}.",
            hint="Run it with the adapter (helora run --adapter), or compile another packing (helora packings).",
        )


_TWO_ROUNDS = "the server needs the adapter's matrices between two rounds"


def why_not_storable(packing: Packing) -> str | None:
    """Why a packing's plans cannot be run without the adapter, as far as known before compiling; or None."""
    if packing.client_finishes:
        return "the client finishes the sum with the adapter, which it has in the clear"
    return _TWO_ROUNDS if packing.modulus_use is ModulusUse.MASKED else None
