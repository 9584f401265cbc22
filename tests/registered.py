"""The registered packings by when their plans run, and all that they assume, accepted."""

from __future__ import annotations

from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse
from helora_core.privacy.leakage import Assumption

ACCEPTED = frozenset(Assumption)


def online_packings() -> list[str]:
    """Those whose plans run once activations are there."""
    return [name for name in get_manager().packings() if not _runs_ahead(name)]


def packings_ahead() -> list[str]:
    """Those whose plans run ahead of time."""
    return [name for name in get_manager().packings() if _runs_ahead(name)]


def _runs_ahead(name: str) -> bool:
    return get_manager().load_packing(name).modulus_use is ModulusUse.CORRELATED
