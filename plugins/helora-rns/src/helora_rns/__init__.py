"""helora's own RNS-CKKS engine on the CPU, registered as a backend. Its code is imported only when it is used."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

from helora_core.errors import BackendUnavailable
from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec

COMPILED = Path(__file__).parent / "_library"
"""Where the build puts the compiled kernels, if there was a compiler."""


def availability() -> str | None:
    """Why the engine cannot be used here, or None."""
    if importlib.util.find_spec("cryptography") is None:
        return "the library cryptography is not installed: pip install cryptography"
    from helora_rns.choice import chosen

    try:
        chosen()
    except BackendUnavailable as error:
        return error.message
    return None


def facts() -> Mapping[str, str]:
    """Kernels and threads that would run."""
    from helora_rns import choice, threads

    try:
        chosen, count = choice.chosen(), threads.count()
    except BackendUnavailable as error:
        return {"kernels": error.message}
    there = ", ".join(name for name in choice.available() if name != chosen)
    return {"kernels": f"{chosen} (also here: {there})" if there else f"{chosen}, not compiled", "threads": str(count)}


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """The engine."""
    yield BackendSpec(
        name="rns",
        target="helora_rns.backend:RNSBackend",
        summary="helora's own RNS-CKKS engine, compiled for this CPU: unaudited.",
        library="cryptography",
        provides_security=True,
        # Compiled it is the fastest of the backends on CPUs, and in NumPy the slowest.
        preference=40 if any(COMPILED.glob("*helora_rns*")) else 5,
        availability=availability,
        facts=facts,
    )
