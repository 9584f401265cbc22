"""Registers TenSEAL with helora. The library is imported only when the backend is used."""

from __future__ import annotations

from collections.abc import Iterable

from helora_core.hookspecs import hookimpl
from helora_core.installing import install_line
from helora_core.specs import BackendSpec, needs

availability = needs("tenseal", lambda: install_line("tenseal"))


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """TenSEAL."""
    yield BackendSpec(
        name="tenseal",
        target="helora_tenseal.backend:TenSEALBackend",
        summary="Microsoft SEAL through TenSEAL's sealapi: symmetric encryption, exact rotation keys.",
        library="tenseal",
        provides_security=True,
        preference=30,
        availability=availability,
    )
