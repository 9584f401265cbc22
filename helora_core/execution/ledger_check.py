"""Checks that executed operations equal predicted ones: a ledger's counts against a plan's."""

from __future__ import annotations

from helora_core.backend.ledger import OperationCounts
from helora_core.errors import LedgerMismatch


def require_counts(who: str, executed: OperationCounts, predicted: OperationCounts) -> None:
    """Check executed operations against the plan's prediction.

    Raises:
        LedgerMismatch: Some counts differ; the message names each of them.
    """
    if executed == predicted:
        return
    wrong = [
        f"{name}: {getattr(executed, name)} executed, {getattr(predicted, name)} predicted"
        for name in executed.__struct_fields__
        if getattr(executed, name) != getattr(predicted, name)
    ]
    raise LedgerMismatch(
        f"The operations of {who} are not those that the plans predict: {'; '.join(wrong)}.",
        hint="Report this: plan and executor disagree, or both sides run different versions of helora.",
    )
