"""A plan on disk, and back: nothing that follows from something else is taken from the file.

The program comes from the file, since it may leave out what a module's zeros make superfluous; levels, scales, counts,
security and digest are worked out again, and the layout is the one that the installed packing makes for the same shape
with the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.artifact.files import damaged
from helora_core.artifact.manifest import decode_json, encode_json
from helora_core.compiler.builder import Builder
from helora_core.compiler.checks import annotate
from helora_core.compiler.ir import Op, Program
from helora_core.compiler.plan import Plan
from helora_core.compiler.settings import Settings
from helora_core.errors import ArtifactUnsupported, HeloraError, InsecureParameters, InvalidInput
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.protocol import Interactive, Layout, ModulusUse, Packing
from helora_core.params.security import require_secure

PLAN_BYTES = 256 << 20
"""Largest plan that is read: about a million operations."""

LARGEST_DIMENSION = 1 << 20
"""Widest module that is read back: layouts of absurd shapes would take for ever to make."""

LoadPacking = Callable[[str], Packing]


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


def restore_plan(data: bytes, path: Path, load_packing: LoadPacking, *, security_bits: int) -> Plan:
    """Make the plan again and check all that can be checked without a backend.

    Args:
        data: As ``encode_plan`` made it.
        path: Where it was read, for refusals.
        load_packing: Gives the installed packing of a name.
        security_bits: Level to insist on, if the plan was not compiled for a higher one.

    Raises:
        ArtifactInvalid: It is no plan, its program breaks a law, or does not do what the plan says.
        ArtifactUnsupported: The installed packing has another version or makes another plan.
        InsecureParameters: The security table refuses the parameters.
        InvalidInput: The plan cannot be run without the adapter.
        PackingUnavailable, PluginLoadError: The packing is not installed, or broken.
    """
    stored = decode_json(data, PlanFile, path)
    packing = load_packing(stored.packing)
    if packing.version != stored.packing_version:
        raise ArtifactUnsupported(
            f"{path}: made with version {stored.packing_version} of packing {stored.packing}; "
            f"version {packing.version} is installed.",
            hint="Compile the adapter again, or install what the artifact was made with.",
        )
    try:
        plan = _plan(stored, packing, path, security_bits)
        require_storable(plan)
        _check_program(plan, path)
    except (ArtifactUnsupported, InsecureParameters, InvalidInput):
        raise
    except HeloraError as error:
        raise damaged(path, f"holds a plan that cannot be: {error.message}") from error
    if plan.digest != stored.digest:
        raise ArtifactUnsupported(
            f"{path}: the plan's digest is {plan.digest[:12]}…, and the file states {stored.digest[:12]}….",
            hint="Another helora may have made it, or it was changed: compile the adapter again.",
        )
    return plan


def _plan(stored: PlanFile, packing: Packing, path: Path, security_bits: int) -> Plan:
    settings, program = stored.settings, stored.program
    if max(msgspec.structs.astuple(stored.shape)) > LARGEST_DIMENSION:
        raise damaged(path, f"is for a module of shape {stored.shape}, beyond {LARGEST_DIMENSION}")
    verdict = require_secure(
        settings.params, security_bits=max(security_bits, stored.security_bits), table=stored.security_table
    )
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


def _check_program(plan: Plan, path: Path) -> None:
    """Hold the file's program against the one that the layout emits, of which it may leave out parts.

    Raises:
        ArtifactInvalid: It reads or names what the layout does not have, or sends results that are not sanitised
            as the plan says.
    """
    builder = Builder(
        plan.params.slots,
        encoding=plan.packing.encoding,
        rescales=plan.settings.rescales,
        sanitize_bits=plan.sanitize_bits,
    )
    plan.layout.emit(builder)
    emitted, program = builder.program(), plan.program
    positions = program.input_positions
    if program.encoding is not emitted.encoding or len(program.outputs) != len(emitted.outputs):
        raise damaged(path, "holds a program whose results are not those of its layout")
    if len(set(positions)) != len(positions) or not set(positions) <= set(emitted.input_positions):
        raise damaged(path, "holds a program that reads what its layout does not pack")
    if not _names(program) <= _names(emitted):
        raise damaged(path, "holds a program with constants that its layout does not have")
    if any(position < 0 for op in program.ops for position in op.positions):
        raise damaged(path, "holds a program with a negative position")
    if plan.sanitize_bits and any(
        sent is not None and msgspec.structs.replace(program.ops[sent], args=()) != meant
        for sent, meant in zip(program.outputs, _sanitized(emitted), strict=True)
    ):
        raise damaged(path, f"holds a program whose results are not sanitised to {plan.sanitize_bits} bits")


def _sanitized(emitted: Program) -> list[Op]:
    """How each result is to be sanitised: to which distance, and what of it the client may read."""
    return [msgspec.structs.replace(emitted.ops[output], args=()) for output in emitted.results]


def _names(program: Program) -> set[str]:
    return {name for op in program.ops for name in (op.constant, *op.constants) if name}
