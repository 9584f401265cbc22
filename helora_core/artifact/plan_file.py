"""Writes and reads a plan as a file: a recipe with its program, checked against the loader's demands.

Whether the program is the one that the compiler makes is checked with the plaintexts: it may leave out what their
zeros make superfluous (``verify``).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from helora_core.artifact.files import damaged
from helora_core.artifact.manifest import decode_json, encode_json
from helora_core.compiler.grid import require_hidden
from helora_core.compiler.plan import Plan
from helora_core.compiler.recipe import LoadPacking, Recipe, recipe_of, remade
from helora_core.compiler.requirements import require_storable
from helora_core.errors import (
    ArtifactUnsupported,
    HeloraError,
    InsecureParameters,
    InvalidInput,
    LeakageRefused,
    PackingUnavailable,
    PluginLoadError,
    VersionMismatch,
)
from helora_core.params.security import (
    DEFAULT_SECURITY_BITS,
    DEFAULT_TABLE,
    SecurityVerdict,
    load_table,
    require_secure,
)
from helora_core.privacy.leakage import Assumption
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS, require_accepted, require_private_weights

PLAN_BYTES = 256 << 20
"""Largest plan that is read: about a million operations."""


class Demands(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan must satisfy to be loaded, regardless of what it states.

    Attributes:
        private_weights: Whether the key holder may learn nothing of the weights beyond Δ.
        sanitize_bits: The least statistical distance to which results must be sanitised; None for not at all.
        security_bits: Minimum level of security, if the plan was not compiled for a higher one.
        table: Name of the security table to judge by, besides the plan's own.
        assume: What the owner of the weights accepts as true of every client.
    """

    private_weights: bool = True
    sanitize_bits: int | None = DEFAULT_SANITIZE_BITS
    security_bits: int = DEFAULT_SECURITY_BITS
    table: str = DEFAULT_TABLE
    assume: frozenset[Assumption] = frozenset()


def encode_plan(plan: Plan) -> bytes:
    """The file of a plan: equal plans give equal bytes."""
    return encode_json(recipe_of(plan, whole=True), indent=0)


def restore_plan(data: bytes, path: Path, load_packing: LoadPacking, demands: Demands) -> Plan:
    """Make the plan again and check everything that can be checked without a backend and without plaintexts.

    Args:
        data: As ``encode_plan`` made it.
        path: Where it was read, for refusals.
        load_packing: Gives the installed packing of a name.
        demands: What the plan must satisfy.

    Raises:
        ArtifactInvalid: It is not a plan, or its program breaks a law.
        ArtifactUnsupported: The installed packing has another version or makes another plan.
        InsecureParameters: The security table refuses the parameters.
        LeakageRefused: It shows weights that must stay private to the key holder; it is sanitised too little; or it
            rests on an assumption that is not accepted.
        InvalidInput: The plan cannot be run without the adapter.
        PackingUnavailable, PluginLoadError: The packing is not installed, or broken.
    """
    stored = decode_json(data, Recipe, path, most=PLAN_BYTES)
    if stored.program is None:
        raise damaged(path, "holds no program")
    try:
        plan = remade(stored, load_packing, _verdict(stored, demands))
        require_storable(plan)
    except VersionMismatch as error:
        raise ArtifactUnsupported(f"{path}: {error.message}", hint=error.hint) from error
    except (InsecureParameters, InvalidInput, PackingUnavailable, PluginLoadError):
        raise
    except HeloraError as error:
        raise damaged(path, f"holds an impossible plan: {error.message}") from error
    _check_leakage(plan, path, demands)
    return plan


def _verdict(stored: Recipe, demands: Demands) -> SecurityVerdict:
    """The security verdict by the demands, or by the level that the plan was compiled for, if that is higher.

    Raises:
        InsecureParameters: Either table refuses the parameters.
    """
    params = stored.settings.params
    require_secure(params, security_bits=stored.security_bits, table=stored.security_table)
    higher = max(demands.security_bits, stored.security_bits)
    level = higher if higher in load_table(demands.table).levels else demands.security_bits
    return require_secure(params, security_bits=level, table=demands.table)


def _check_leakage(plan: Plan, path: Path, demands: Demands) -> None:
    """Check what a plan's results show against the demands.

    Raises:
        LeakageRefused: They show weights, are sanitised less than demanded, or rest on what is not accepted.
    """
    require_accepted(plan.packing.name, plan.packing.leakage, demands.assume)
    if plan.correlation is not None:
        require_hidden(plan.packing.name, plan.correlation, demands.sanitize_bits)
    if demands.private_weights:
        try:
            require_private_weights(plan.packing.name, plan.packing.leakage, sanitize_bits=plan.sanitize_bits)
        except LeakageRefused as error:
            raise LeakageRefused(
                f"{path}: {error.message}",
                hint="Compile the adapter with private weights, as helora compile does by default; or, if the key "
                "holder owns the adapter, run this one with helora run --no-private-weights (private_weights=False).",
            ) from error
    if plan.packing.leakage.needs_sanitize and (plan.sanitize_bits or 0) < (demands.sanitize_bits or 0):
        raise LeakageRefused(
            f"{path}: results are sanitised to {plan.sanitize_bits or 0} bits; {demands.sanitize_bits} are asked for.",
            hint=f"Compile the adapter with --sanitize {demands.sanitize_bits}, or ask for less here.",
        )
