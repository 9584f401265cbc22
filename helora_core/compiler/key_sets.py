"""The keys that plans need: one set for all of equal parameters. Artifacts list them in ``parameters.json``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from helora_core.compiler.plan import Plan
from helora_core.params.ckks import CKKSParams


class KeySet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys for all plans of equal parameters.

    Attributes:
        params: Nominal parameters; a backend resolves them to primes.
        rotation_steps: Exactly the rotation keys that are needed, ascending.
        public_key: Whether the server encrypts.
        plans: Digests of the plans that run under these keys.
    """

    params: CKKSParams
    rotation_steps: tuple[int, ...]
    public_key: bool
    plans: tuple[str, ...]


def key_sets(plans: Sequence[Plan]) -> tuple[KeySet, ...]:
    """The key sets of some plans, in an order that does not depend on the plans' order."""
    sharing: dict[CKKSParams, list[Plan]] = {}
    for plan in sorted(plans, key=lambda plan: plan.digest):
        sharing.setdefault(plan.params, []).append(plan)
    return tuple(
        KeySet(
            params=params,
            rotation_steps=tuple(sorted({step for plan in group for step in plan.rotation_steps})),
            public_key=any(plan.needs_public_key for plan in group),
            plans=tuple(plan.digest for plan in group),
        )
        for params, group in sharing.items()
    )
