"""Registers acme with helora. The library is imported only when the backend is used."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec

LIBRARY = ""  # FILL IN 1: what `import` calls the library, as in "libfoo"


def availability() -> str | None:
    """Why the library cannot be used here, or None."""
    if LIBRARY and importlib.util.find_spec(LIBRARY) is None:
        return f"the library {LIBRARY} is not installed: it is the extra native of helora-acme"
    return None


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """The backend, by name."""
    yield BackendSpec(
        name="acme",
        target="helora_acme.backend:AcmeBackend",
        summary="So far an emulation: nothing is encrypted.",  # FILL IN 12: one line about the backend
        library="",  # FILL IN 1: what PyPI calls the library
        provides_security=False,  # FILL IN 12: True, now that the library encrypts
        availability=availability,
    )
