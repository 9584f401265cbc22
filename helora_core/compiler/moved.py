"""A plan under other parameters of its ring, so that several plans can have the same ones."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from helora_core.compiler.checks import annotate
from helora_core.compiler.compile import require_sound
from helora_core.compiler.plan import Plan
from helora_core.compiler.result_size import divided, smallest_results
from helora_core.errors import InvalidParameters, InvalidProgram
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import security_verdict


def moved(plan: Plan, params: CKKSParams, target_bits: float) -> Plan:
    """The same program with the same scales under these parameters, if it is precise enough there. Its results are
    made as short as they can be there.

    Only a program that never rescales can move: its scales do not depend on the primes, and a modulus that is larger
    than it needs only costs time and bytes.

    Args:
        plan: The plan.
        params: The parameters to run under; for the plan's own parameters the plan itself is returned.
        target_bits: Bits of the expected Δ that must remain.

    Raises:
        InvalidParameters: The ring is another, the modulus too small, or the program rescales.
        PrecisionLost: The noise is too large there, or the headroom too small.
    """
    if params == plan.params:
        return plan
    if plan.settings.rescales or params.ring_degree != plan.params.ring_degree:
        raise InvalidParameters(
            f"Plan {plan.packing.name} {plan.shape} cannot run under other parameters than those of its own chain.",
            hint="Compile it for the ring that is wanted, or with a packing that does not rescale.",
        )
    whole = divided(plan, 0) or plan
    try:
        values = annotate(whole.program, params, whole.settings.scales)
    except InvalidProgram as error:
        raise InvalidParameters(
            f"Plan {plan.packing.name} {plan.shape} does not fit the {params.data_modulus_bits} bits of that modulus.",
            hint="Use a larger modulus.",
        ) from error
    settings = msgspec.structs.replace(whole.settings, params=params)
    verdict = security_verdict(params, security_bits=plan.verdict.asked_bits, table=plan.verdict.table)
    result = smallest_results(replace(whole, settings=settings, values=values, verdict=verdict), target_bits)
    require_sound(result, target_bits)
    return result
