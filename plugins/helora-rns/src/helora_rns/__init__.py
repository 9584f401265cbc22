"""helora's own RNS-CKKS engine on the CPU, registered as a backend. Its code is imported only when it is used."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from helora_core.errors import BackendUnavailable
from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


def availability() -> str | None:
    """Why the engine cannot be used here, or None."""
    if importlib.util.find_spec("cryptography") is None:
        return "the library cryptography is not installed: pip install helora-rns"
    from helora_rns.choice import chosen

    try:
        chosen()
    except BackendUnavailable as error:
        return error.message
    return None


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """The engine."""
    yield BackendSpec(
        name="rns",
        target="helora_rns.backend:RNSBackend",
        summary="helora's own RNS-CKKS engine, compiled for this CPU: unaudited.",
        library="cryptography",
        provides_security=True,
        preference=10,
        availability=availability,
    )
