"""Registers Pyfhel with helora. The library is imported only when the backend is used."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


def availability() -> str | None:
    """Why Pyfhel cannot be used here, or None. Whether it can be imported shows when it is used."""
    if importlib.util.find_spec("Pyfhel") is None:
        return (
            "the library Pyfhel is not installed: pip install 'helora-pyfhel[native]'; it comes as source, and the "
            "README of helora-pyfhel says what to do where that does not build"
        )
    return None


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """Pyfhel."""
    yield BackendSpec(
        name="pyfhel",
        target="helora_pyfhel.backend:PyfhelBackend",
        summary="Microsoft SEAL through Pyfhel: public-key encryption, exact rotation keys.",
        library="Pyfhel",
        provides_security=True,
        preference=10,
        availability=availability,
    )
