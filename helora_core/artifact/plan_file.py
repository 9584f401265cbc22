"""A plan on disk, and back: nothing that follows from something else is taken from the file.

Levels, scales, counts, security and digest are worked out again, the layout is the one that the installed packing makes
for the same shape with the same figures. Whether the program is the one that the compiler makes of it is seen with the
plaintexts, for it may leave out what their zeros make superfluous (``verify``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.artifact.files import damaged
from helora_core.artifact.manifest import decode_json, encode_json
from helora_core.compiler.checks import annotate
from helora_core.compiler.ir import Program
from helora_core.compiler.limits import check_shape
from helora_core.compiler.plan import Plan
from helora_core.compiler.settings import Settings
from helora_core.errors import ArtifactUnsupported, HeloraError, InsecureParameters, InvalidInput, LeakageRefused
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.protocol import Interactive, Layout, ModulusUse, Packing
from helora_core.params.security import (
    DEFAULT_SECURITY_BITS,
    DEFAULT_TABLE,
    SecurityVerdict,
    load_table,
    require_secure,
)
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS, require_private_weights

PLAN_BYTES = 256 << 20
"""Largest plan that is read: about a million operations."""

LoadPacking = Callable[[str], Packing]


class Demands(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan must keep to be loaded, whatever it says of itself.

    Attributes:
        private_weights: Whether the key holder may learn nothing of the weights beyond Δ.
        sanitize_bits: Statistical distance to which results must be sanitised at least; None for not at all.
        security_bits: Level to insist on, if the plan was not compiled for a higher one.
        table: Name of the security table to judge by, beside the plan's own.
    """

    private_weights: bool = True
    sanitize_bits: int | None = DEFAULT_SANITIZE_BITS
    security_bits: int = DEFAULT_SECURITY_BITS
    table: str = DEFAULT_TABLE


class PlanFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as data.

    Attributes:
        packing, packing_version: The strategy that it was made with.
        shape: Of the module.
        settings: Parameters and scales.
        layout: The layout's figures.
        tokens, costs: What the layout was chosen by.
        sanitize_bits: Statistical distance to which results are sanitised; None if they are sent as they are.
        security_bits, security_table: Level that the parameters were chosen for, and by which table.
        digest: Of the plan.
        program: What the server executes.
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
    program: Program


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
    """Why a packing's plans cannot be run without the adapter, as far as it is known before there is one; or None."""
    if packing.client_finishes:
        return "the client finishes the sum with the adapter, which she has in the clear"
    return _TWO_ROUNDS if packing.modulus_use is ModulusUse.MASKED else None


def encode_plan(plan: Plan) -> bytes:
    """The file of a plan: equal plans give equal bytes."""
    return encode_json(
        PlanFile(
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
            program=plan.program,
        ),
        indent=0,
    )


def restore_plan(data: bytes, path: Path, load_packing: LoadPacking, demands: Demands) -> Plan:
    """Make the plan again and check all that can be checked without a backend and without plaintexts.

    Args:
        data: As ``encode_plan`` made it.
        path: Where it was read, for refusals.
        load_packing: Gives the installed packing of a name.
        demands: What the plan must keep.

    Raises:
        ArtifactInvalid: It is no plan, or its program breaks a law.
        ArtifactUnsupported: The installed packing has another version or makes another plan.
        InsecureParameters: The security table refuses the parameters.
        LeakageRefused: It shows weights to the key holder, and they are to be private; or it is sanitised too little.
        InvalidInput: The plan cannot be run without the adapter.
        PackingUnavailable, PluginLoadError: The packing is not installed, or broken.
    """
    stored = decode_json(data, PlanFile, path, most=PLAN_BYTES)
    packing = load_packing(stored.packing)
    if packing.version != stored.packing_version:
        raise ArtifactUnsupported(
            f"{path}: made with version {stored.packing_version} of packing {stored.packing}; "
            f"version {packing.version} is installed.",
            hint="Compile the adapter again, or install what the artifact was made with.",
        )
    try:
        plan = _plan(stored, packing, path, demands)
        require_storable(plan)
    except (ArtifactUnsupported, InsecureParameters, InvalidInput):
        raise
    except HeloraError as error:
        raise damaged(path, f"holds a plan that cannot be: {error.message}") from error
    if plan.digest != stored.digest:
        raise ArtifactUnsupported(
            f"{path}: the plan's digest is {plan.digest[:12]}…, and the file states {stored.digest[:12]}….",
            hint="Another helora may have made it, or it was changed: compile the adapter again.",
        )
    _check_leakage(plan, path, demands)
    return plan


def _plan(stored: PlanFile, packing: Packing, path: Path, demands: Demands) -> Plan:
    settings, program = stored.settings, stored.program
    check_shape(stored.shape)
    verdict = _verdict(stored, demands)
    values = annotate(program, settings.params, settings.scales)
    layout = _layout(stored, packing, path)
    return Plan(
        packing=packing,
        shape=stored.shape,
        layout=layout,
        settings=settings,
        program=program,
        values=values,
        verdict=verdict,
        sanitize_bits=stored.sanitize_bits,
        tokens=stored.tokens,
        costs=stored.costs,
    )


def _verdict(stored: PlanFile, demands: Demands) -> SecurityVerdict:
    """What is demanded says whether the parameters are secure; and what they were compiled for, if that is more.

    Raises:
        InsecureParameters: Either table refuses the parameters.
    """
    params = stored.settings.params
    require_secure(params, security_bits=stored.security_bits, table=stored.security_table)
    higher = max(demands.security_bits, stored.security_bits)
    level = higher if higher in load_table(demands.table).levels else demands.security_bits
    return require_secure(params, security_bits=level, table=demands.table)


def _check_leakage(plan: Plan, path: Path, demands: Demands) -> None:
    """Hold a plan to what its results may show.

    Raises:
        LeakageRefused: They show weights, or are sanitised less than is demanded.
    """
    if demands.private_weights:
        require_private_weights(
            plan.packing.name,
            plan.packing.leakage,
            sanitize_bits=plan.sanitize_bits,
            qualifying=["one that keeps them private (`helora packings`)"],
        )
    if plan.packing.leakage.needs_sanitize and (plan.sanitize_bits or 0) < (demands.sanitize_bits or 0):
        raise LeakageRefused(
            f"{path}: results are sanitised to {plan.sanitize_bits or 0} bits; {demands.sanitize_bits} are asked for.",
            hint=f"Compile the adapter with --sanitize {demands.sanitize_bits}, or ask for less here.",
        )


def _layout(stored: PlanFile, packing: Packing, path: Path) -> Layout:
    for layout in _layouts(stored, packing):
        if dict(layout.figures) == stored.layout:
            return layout
    raise ArtifactUnsupported(
        f"{path}: packing {packing.name} makes no layout with the figures {stored.layout} for {stored.shape}.",
        hint="The packing has changed without a new version: compile the adapter again.",
    )


def _layouts(stored: PlanFile, packing: Packing) -> Iterator[Layout]:
    """What the packing makes now; first by what the layout was chosen by, then by the defaults."""
    slots = stored.settings.params.slots
    for tokens in dict.fromkeys((stored.tokens, None)):
        for costs in dict.fromkeys((stored.costs, DEFAULT_COSTS)):
            yield from packing.layouts(stored.shape, slots, tokens=tokens, costs=costs)
