"""What ``helora run --artifact`` runs: modules compiled before, with the adapter nowhere to be seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.errors import InvalidInput, PrecisionLost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from helora_core.artifact.read import ArtifactModule
    from helora_core.cli.options import Execution
    from helora_core.runtime.adapter_run import Outcome, Work

_SETTLED = ("packing", "ring", "sanitize", "batch", "share")
"""Options of ``Execution`` that were decided when the artifact was compiled."""


def run_artifact(
    directory: Path, module_name: str, input_path: Path, execution: Execution
) -> tuple[list[Outcome], dict[str, Any]]:
    """Verify an artifact, run modules of it, and report as ``run_work`` does.

    Raises:
        ArtifactInvalid, ArtifactUnsupported, InsecureParameters: As ``read_artifact``.
        LeakageRefused: A plan shows weights to the key holder, and they are to be private.
        PrecisionLost: The bound on the precision is below what is asked for; Δ itself cannot be checked.
    """
    from helora_core.artifact.read import read_artifact
    from helora_core.cli.execution import run_plans
    from helora_core.manager import get_manager
    from helora_core.runtime.arrays import read_activations

    _refuse_settled()
    load_packing = get_manager().load_packing
    artifact = read_artifact(directory, load_packing, security_bits=int(execution.security))
    modules = artifact.select(module_name)
    arrays = read_activations(input_path, [part.name for module in modules for part in module.parts])
    work, bounds = [], []
    for module in modules:
        _check_plan(module, execution)
        job = _work(module, arrays)
        bounds.append(_precision_bound(job, module, execution.min_bits))
        work.append(job)
    outcomes, document = run_plans(work, execution)
    for row, bound in zip(document["modules"], bounds, strict=True):
        row["precision_bound_bits"] = bound
    return outcomes, document | {"artifact_digest": artifact.digest}


def tell_unchecked(artifact_digest: str) -> None:
    """Say on standard error what was run, and that Δ was not checked."""
    click.echo(f"artifact {artifact_digest}", err=True)
    click.echo(
        "Without the adapter Δ cannot be held against the plaintext reference: bits in brackets are a bound that was "
        "worked out beforehand.",
        err=True,
    )


def _refuse_settled() -> None:
    context = click.get_current_context()
    for name in _SETTLED:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} was settled when the artifact was compiled; leave it out.")


def _check_plan(module: ArtifactModule, execution: Execution) -> None:
    from helora_core.manager import get_manager
    from helora_core.privacy.policy import keeps_weights_private, require_private_weights

    plan, manager = module.plan, get_manager()
    plan.check_budget(plan.tokens_per_run, execution.budget)
    if execution.private_weights:
        others = [name for name in manager.packings() if keeps_weights_private(manager.load_packing(name).leakage)]
        require_private_weights(
            plan.packing.name, plan.packing.leakage, sanitize_bits=plan.sanitize_bits, qualifying=others
        )


def _work(module: ArtifactModule, arrays: dict[str, NDArray[Any]]) -> Work:
    """The module with the activations of its parts, which have to be the same for all of them."""
    import numpy as np

    from helora_core.runtime.adapter_run import Work

    first, *others = (arrays[part.name] for part in module.parts)
    if not all(np.array_equal(first, other) for other in others):
        raise InvalidInput(
            f"Module {module.name}: its parts were compiled to share one input and were given different ones.",
            hint="Give each the same activations, or compile without --share.",
        )
    return Work(module, first, module.plan, tuple((part.name, part.d_out) for part in module.parts))


def _precision_bound(job: Work, module: ArtifactModule, min_bits: float) -> float:
    """Bits that are left at least, by the plan, for weights and activations of the size that they have."""
    import msgspec
    import numpy as np

    from helora_core.runtime.batching import check_activations

    x = check_activations(job.x, module.shape, who=module.name)
    x_rms = float(np.sqrt(np.mean(x**2)))
    bits = module.plan.precision(msgspec.structs.replace(module.magnitudes, x_rms=x_rms), tokens=len(x)).bits
    if not bits >= min_bits:
        raise PrecisionLost(
            f"Module {module.name}: its plan keeps at least {bits:.1f} bits for these weights and activations; "
            f"{min_bits:g} were asked for, and without the adapter Δ cannot be checked.",
            hint="Compile it with a higher --min-bits, or accept fewer here.",
        )
    return bits
