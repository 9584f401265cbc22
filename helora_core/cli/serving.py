"""Runs an artifact for ``helora run --artifact``: compiled modules, without the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli.terminal import say
from helora_core.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from helora_core.artifact.read import Artifact, ArtifactModule
    from helora_core.cli.options import Execution
    from helora_core.compiler.compiled import CompiledModule
    from helora_core.parties.adapter_run import ModuleJob, ModuleResult

_SETTLED = ("packing", "ring", "tokens", "share")
"""Options of ``Execution`` that were decided when the artifact was compiled."""


def open_artifact(directory: Path, execution: Execution) -> Artifact:
    """Verify an artifact, with the demands of the options on its plans.

    Raises:
        ArtifactInvalid, ArtifactUnsupported, InsecureParameters, LeakageRefused: As ``read_artifact`` raises them.
    """
    from helora_core.artifact.read import read_artifact
    from helora_core.host.manager import get_manager

    _refuse_settled()
    asked = execution.constraints
    return read_artifact(
        directory,
        get_manager().load_packing,
        private_weights=asked.private_weights,
        sanitize_bits=asked.sanitize_bits,
        security_bits=asked.security_bits,
        table=asked.table,
        assume=asked.assume,
    )


def run_artifact(
    artifact: Artifact, modules: tuple[ArtifactModule, ...], input_path: Path, execution: Execution
) -> tuple[list[ModuleResult], dict[str, Any]]:
    """Run modules of an artifact, and report as ``run_work`` does.

    Raises:
        BudgetExceeded: A plan is over the budget.
        PrecisionLost: The bound leaves too little precision; Δ itself cannot be checked.
    """
    from helora_core.adapter.arrays import read_activations
    from helora_core.cli.execution import run_plans
    from helora_core.compiler.compiled import by_name

    arrays = read_activations(input_path, [part.name for module in modules for part in module.parts])
    work = []
    for versions in by_name([module.compiled for module in modules]).values():
        for each in versions:
            each.plan.check_budget(each.plan.tokens_per_run, execution.constraints.budget)
        work.append(_work(versions, arrays))
    results, document = run_plans(work, execution)
    return results, document | {"artifact_digest": artifact.digest}


def tell_unchecked(artifact_digest: str) -> None:
    """Print to standard error which artifact was run, and that Δ was not checked."""
    click.echo(f"artifact {artifact_digest}", err=True)
    say(
        "Without the adapter Δ cannot be compared with the plaintext reference: bits in brackets are those that the "
        "bound on its error leaves.",
        err=True,
    )


def _refuse_settled() -> None:
    context = click.get_current_context()
    for name in _SETTLED:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} was fixed when the artifact was compiled; leave it out.")


def _work(versions: Sequence[CompiledModule], arrays: dict[str, NDArray[Any]]) -> ModuleJob:
    """The module with the activations of its parts, which have to be the same for all of them."""
    import numpy as np

    from helora_core.parties.adapter_run import ModuleJob

    module = versions[0]
    first, *others = (arrays[part.name] for part in module.parts)
    if not all(np.array_equal(first, other) for other in others):
        raise InvalidInput(
            f"Module {module.name}: its parts were compiled to share one input and were given different ones.",
            hint="Give each the same activations, or compile without --share.",
        )
    return ModuleJob.of(versions, first)
