"""Registers the emulation with helora. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterable

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """Offer the emulation as a backend."""
    yield BackendSpec(
        name="numpy",
        target="helora_numpy.backend:NumPyBackend",
        summary="Emulation in NumPy: CKKS's levels, scales, keys and noise, and no encryption at all.",
        library="numpy",
        provides_security=False,
    )
