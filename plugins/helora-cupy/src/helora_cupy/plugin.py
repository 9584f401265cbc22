"""What the plugin offers to helora: a backend. Its code is imported only when it is used."""

from __future__ import annotations

from collections.abc import Iterable

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec
from helora_cupy.probing import availability, device, facts, library, only_by_name

__all__ = ["availability", "helora_backends"]


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """The engine on a card."""
    yield BackendSpec(
        name="cupy",
        target="helora_cupy.backend:CupyBackend",
        summary="helora-rns's engine on CUDA, through CuPy: the same keys, messages and results. Unaudited.",
        library=library(),
        provides_security=True,
        preference=50,
        availability=availability,
        device=device,
        only_by_name=only_by_name,
        facts=facts,
    )
