"""Registers OpenFHE with helora, as two backends. The library is imported only when one of them is used."""

from __future__ import annotations

import importlib.util
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from helora_core.hookspecs import hookimpl
from helora_core.installing import install_line
from helora_core.specs import BackendSpec


def availability() -> str | None:
    """Why OpenFHE cannot be used here, or None.

    Its wheels install on any Python 3 but have the module for only one version: it must be there for this interpreter.
    """
    found, suffix = importlib.util.find_spec("openfhe"), sysconfig.get_config_var("EXT_SUFFIX")
    if found is None:
        return f"the library openfhe is not installed: with Python 3.10, {install_line('openfhe')}"
    if any((Path(place) / f"openfhe{suffix}").is_file() for place in found.submodule_search_locations or ()):
        return None
    return f"the installed openfhe has no module for this Python ({suffix}): use Python 3.10 with openfhe 1.6.1.0.22.4"


@hookimpl
def helora_backends() -> Iterable[BackendSpec]:
    """OpenFHE with rescaling by the program, and by the library."""
    yield BackendSpec(
        name="openfhe",
        target="helora_openfhe.backend:OpenFHEBackend",
        summary="OpenFHE, FIXEDMANUAL: the program rescales; hoisted rotations.",
        library="openfhe",
        provides_security=True,
        preference=20,
        availability=availability,
    )
    yield BackendSpec(
        name="openfhe_auto",
        target="helora_openfhe.backend:OpenFHEAutoBackend",
        summary="OpenFHE, FLEXIBLEAUTO: the library decides when to rescale; hoisted rotations.",
        library="openfhe",
        provides_security=True,
        availability=availability,
    )
