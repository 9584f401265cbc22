"""Executed equals predicted: what a ledger counted against what a plan says."""

from __future__ import annotations

from helora_core.backend.ledger import OperationCounts
from helora_core.errors import LedgerMismatch


def require_counts(who: str, executed: OperationCounts, predicted: OperationCounts) -> None:
    """Hold executed operations against the plan's.

    Raises:
        LedgerMismatch: They differ; it names each that does.
    """
    if executed == predicted:
        return
    wrong = [
        f"{name}: {getattr(executed, name)} executed, {getattr(predicted, name)} predicted"
        for name in executed.__struct_fields__
        if getattr(executed, name) != getattr(predicted, name)
    ]
    raise LedgerMismatch(
        f"What {who} did is not what the plans say: {'; '.join(wrong)}.",
        hint="Report this: plan and executor disagree, or both sides run different versions of helora.",
    )
