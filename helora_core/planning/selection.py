"""Chooses the backend for ``auto``: the best one that can run the work here, and why preferred ones could not."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from helora_core.errors import BackendUnavailable, HeloraError
from helora_core.installing import install_line

if TYPE_CHECKING:
    from helora_core.compiler.plan import Plan
    from helora_core.host.manager import PluginManager

AUTO = "auto"

PassedOver: TypeAlias = "tuple[tuple[str, str], ...]"
"""Backends that were preferred to the one that runs, with the reasons why not, in order."""

_LOG = logging.getLogger("helora.selection")


@dataclass(frozen=True)
class Selection:
    """The backend chosen.

    Attributes:
        name: Its registered name.
        secure: Whether it encrypts at all.
        skipped: Backends that were preferred to it, with the reasons why they could not be used, in order.
    """

    name: str
    secure: bool
    skipped: PassedOver


def select_backend(
    manager: PluginManager,
    wanted: str | None = None,
    *,
    plans: Collection[Plan] = (),
    allow_emulation: bool = False,
    environ: Mapping[str, str] | None = None,
    passed_over: PassedOver = (),
) -> Selection:
    """Choose a backend.

    Args:
        manager: The plugins.
        wanted: A name, which is always used, emulation or not; or None or ``auto`` for the best that can run
            ``plans``. None defers to the variable ``HELORA_BACKEND`` first.
        plans: The plans that it has to run.
        allow_emulation: Let ``auto`` fall back to an emulation, which encrypts nothing.
        environ: The environment with ``HELORA_BACKEND``; ``os.environ`` if None.
        passed_over: If the planner chose ``wanted``: what it preferred it to.

    Raises:
        BackendUnavailable: No backend that encrypts can run the plans (and no emulation, if that is allowed).
    """
    wanted = wanted or (os.environ if environ is None else environ).get("HELORA_BACKEND") or AUTO
    if wanted != AUTO:
        manager.load_backend(wanted)
        return Selection(wanted, manager.backends()[wanted].spec.provides_security, passed_over)
    skipped: list[tuple[str, str]] = []
    for name in _by_preference(manager):
        secure = manager.backends()[name].spec.provides_security
        reason = "it encrypts nothing" if not secure and not allow_emulation else manager.backends()[name].only_by_name
        reason = reason or _why_not(manager, name, plans)
        if reason is None:
            return Selection(name, secure, tuple(skipped))
        _LOG.info("backend %s skipped: %s", name, reason)
        skipped.append((name, reason))
    raise BackendUnavailable(
        "No backend that encrypts can be used here: "
        + ("; ".join(f"{name}: {reason}" for name, reason in skipped) or "none is installed")
        + ".",
        hint=f"Install one: {install_line('rns')}. Or, if nothing needs hiding, pass --allow-emulation.",
    )


def passed_over(manager: PluginManager, chosen: str, predicted: Mapping[str, float]) -> PassedOver:
    """Why the planner chose none of the backends that ``auto`` prefers to this one.

    Args:
        manager: The plugins.
        chosen: The backend that it chose.
        predicted: Milliseconds for the work on each backend that is calibrated, ``chosen`` included, or nothing if
            there was no choice.
    """
    return tuple((name, _why_passed(manager, name, chosen, predicted)) for name in preferred_to(manager, chosen))


def _why_passed(manager: PluginManager, name: str, chosen: str, predicted: Mapping[str, float]) -> str:
    registered = manager.backends()[name]
    reason = registered.availability or registered.only_by_name
    if reason:
        return reason
    if name in predicted:
        return f"predicted {predicted[name]:.3g} ms, sending included; {chosen} {predicted[chosen]:.3g} ms"
    on = f" on {registered.device}" if registered.device else ""
    return f"not calibrated{on}, so nothing says that it is faster: helora calibrate --backend {name}"


def preferred_to(manager: PluginManager, name: str) -> list[str]:
    """The backends that encrypt and that ``auto`` prefers to this one."""
    order = _by_preference(manager)
    return [each for each in order[: order.index(name)] if manager.backends()[each].spec.provides_security]


def _by_preference(manager: PluginManager) -> list[str]:
    """The backends that encrypt, those with the highest preference first, then the emulations; names do not matter."""

    def rank(name: str) -> tuple[bool, int, str]:
        spec = manager.backends()[name].spec
        return not spec.provides_security, -spec.preference, name

    return sorted(manager.backends(), key=rank)


def _why_not(manager: PluginManager, name: str, plans: Collection[Plan]) -> str | None:
    """Why a backend cannot run the plans, or None."""
    from helora_core.backend.checked_backend import checked
    from helora_core.compiler.requirements import require_capabilities
    from helora_core.params.security import require_secure

    try:
        backend = manager.load_backend(name)
        for plan in plans:
            require_capabilities(backend, plan)
            verdict = plan.verdict
            require_secure(checked(backend).resolve(plan.params), security_bits=verdict.asked_bits, table=verdict.table)
    except BackendUnavailable:
        return manager.backends()[name].availability or "it cannot be loaded"
    except HeloraError as error:
        return error.message
    return None
