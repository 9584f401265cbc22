"""The metadata that plugins give to helora: frozen, with code named by strings so that nothing heavy is imported early.

A ``target`` is ``"package.module:attribute"``. It is imported when the backend or packing is first used, not to list
it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def always_available() -> str | None:
    """The availability of a plugin that needs nothing beyond its own dependencies."""
    return None


def no_device() -> str:
    """The device of a backend that computes on the CPU."""
    return ""


def no_facts() -> Mapping[str, str]:
    """The facts of a backend that has nothing to choose on a machine."""
    return {}


def needs(module: str, install: str | Callable[[], str]) -> Callable[[], str | None]:
    """The availability of a plugin whose library is a top-level module, which is looked for and not imported.

    Args:
        module: What ``import`` calls it.
        install: What to do where it is missing, in words or, worked out only then, by a function.
    """

    def missing() -> str | None:
        if importlib.util.find_spec(module) is None:
            return f"the library {module} is not installed: {install if isinstance(install, str) else install()}"
        return None

    return missing


def _check_name_and_target(kind: str, name: str, target: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r} is not lower-case letters, digits and underscores (at most 32)")
    if not _TARGET.fullmatch(target):
        raise ValueError(f"{kind} {name!r}: target {target!r} is not of the form 'package.module:attribute'")


@dataclass(frozen=True, kw_only=True)
class BackendSpec:
    """A CKKS backend, described without importing its library.

    Attributes:
        name: What users type after ``--backend``; unique over all plugins.
        target: ``"package.module:Class"``; called without arguments it gives a
            ``helora_core.backend.protocol.Backend``.
        summary: One line for listings.
        library: The PyPI name of the library it drives, for the version shown; empty if it has none.
        provides_security: Whether ciphertexts really hide anything. An emulation says False and is shown as such.
        preference: If several backends can run the work, ``auto`` takes the one with the highest preference. Emulations
            come after all backends that encrypt, whatever their preference.
        availability: Returns None if the backend can be used here, otherwise the reason in words. It must not raise
            and must be quick.
        device: Returns the device that it computes on, by the name of its kind, if that is not the CPU: it is
            calibrated for each. Asked only if it can be used.
        only_by_name: Returns why ``auto`` must not take the backend although it can be used, or None.
        facts: Returns what it found on this machine and would run with, by name, for ``helora doctor``: kernels,
            threads, a card. It is asked whether the backend can be used or not, and must not raise.
    """

    name: str
    target: str
    summary: str
    library: str = ""
    provides_security: bool
    preference: int = 0
    availability: Callable[[], str | None] = always_available
    device: Callable[[], str] = no_device
    only_by_name: Callable[[], str | None] = always_available
    facts: Callable[[], Mapping[str, str]] = no_facts

    def __post_init__(self) -> None:
        _check_name_and_target("backend", self.name, self.target)
        # Only a bool will do: "no", 1 or a mock would count as True.
        if not isinstance(self.provides_security, bool):
            raise ValueError(f"backend {self.name!r}: provides_security {self.provides_security!r} is not a bool")
        if isinstance(self.preference, bool) or not isinstance(self.preference, int):
            raise ValueError(f"backend {self.name!r}: preference {self.preference!r} is not an int")


@dataclass(frozen=True, kw_only=True)
class PackingSpec:
    """A packing strategy, described without importing its code.

    Attributes:
        name: What users type after ``--packing``; unique over all plugins.
        target: ``"package.module:Class"``; called without arguments it gives a
            ``helora_core.packing.protocol.Packing``.
        summary: One line for listings: what it is, and when to use it.
    """

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        _check_name_and_target("packing", self.name, self.target)


@dataclass(frozen=True, kw_only=True)
class TelemetryEvent:
    """One thing that happened at run time. It carries names, counts and times, never values, weights or keys.

    Attributes:
        name: Dotted, as in ``"module.executed"``.
        elapsed_ns: Wall time in nanoseconds.
        attributes: Strings and numbers that describe the event.
    """

    name: str
    elapsed_ns: int
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)


TelemetrySink = Callable[[TelemetryEvent], Any]
"""Receives events in the thread that runs the plan. Its return value is ignored; an exception is reported once."""
