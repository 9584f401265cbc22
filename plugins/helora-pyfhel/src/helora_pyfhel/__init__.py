"""Registers Pyfhel with helora. The library is imported only when the backend is used."""

from __future__ import annotations

from collections.abc import Iterable

from helora_core.hookspecs import hookimpl
from helora_core.installing import install_line
from helora_core.specs import BackendSpec, needs

availability = needs(
    "Pyfhel",
    lambda: (
        f"{install_line('pyfhel')}; it comes as source, and the README of helora-pyfhel says what to do if "
        "it does not build"
    ),
)


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
