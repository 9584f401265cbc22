"""The other side as a model sees it: what a host offers, by adapter."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.parties.client import Client
from helora_core.parties.offer import offered_by_name, read_offer
from helora_core.parties.result import Link

AHEAD = ".ahead"
"""A host that has an adapter twice names the one whose plans run ahead of time like the other, with this ending."""

DEFAULT = "default"
"""The name of an adapter that a host serves without one; PEFT's."""


class Bank(Protocol):
    """What has the adapter: a ``helora_core.Server`` in this process, or ``connect`` to one elsewhere."""

    def offer(self) -> bytes:
        """What a client has to know."""
        ...

    def open(self, evaluation_keys: bytes) -> Link:
        """A session for the client of these keys."""
        ...


@dataclass(frozen=True)
class OfferedAdapter:
    """One adapter of a host.

    Attributes:
        name: Its name.
        parts: (d_in, d_out) by the name of the model's module.
        names: By the name of the model's module, the name that the client asks for.
        ahead: The same, for the plans that run ahead of time; empty if the host has none.
        backend: The backend of the host.
    """

    name: str
    parts: Mapping[str, tuple[int, int]]
    names: Mapping[str, str]
    ahead: Mapping[str, str] = field(default_factory=dict)
    backend: str = ""


def offered_adapters(offer: bytes, client: Client) -> dict[str, OfferedAdapter]:
    """The adapters of an offer, by name.

    Args:
        offer: The host's offer.
        client: The client that was made from it.

    Raises:
        CorruptPayload, VersionMismatch: As ``read_offer`` raises them.
    """
    read = read_offer(offer)
    parts: dict[str, dict[str, tuple[int, int]]] = {}
    names: dict[str, dict[str, str]] = {}
    plans: dict[str, list[Plan]] = {}
    for module, versions in offered_by_name(read).items():
        plan = client.plans[module]
        for part in versions[0].parts:
            adapter, _, name = part.name.rpartition("/")
            parts.setdefault(adapter or DEFAULT, {})[name] = (plan.shape.d_in, part.d_out)
            names.setdefault(adapter or DEFAULT, {})[name] = part.name
        plans.setdefault(adapter or DEFAULT, []).append(plan)
    found = {}
    for adapter in parts:
        online = _online(adapter, parts)
        if online != adapter:
            continue
        runs_ahead = all(plan.correlation is not None for plan in plans[adapter] if not plan.is_zero)
        twin = names.get(adapter + AHEAD, {})
        found[online] = OfferedAdapter(
            online,
            parts[adapter],
            {} if runs_ahead else names[adapter],
            names[adapter] if runs_ahead else twin,
            read.backend,
        )
    return found


def adapter_names(offer: bytes) -> tuple[str, ...]:
    """The names of an offer's adapters, without making its plans.

    Raises:
        CorruptPayload, VersionMismatch: As ``read_offer`` raises them.
    """
    parts = [part.name for versions in offered_by_name(read_offer(offer)).values() for part in versions[0].parts]
    names = dict.fromkeys(part.rpartition("/")[0] or DEFAULT for part in parts)
    return tuple(dict.fromkeys(_online(name, names) for name in names))


def _online(name: str, names: Collection[str]) -> str:
    """The name under which the adapter's plans that run online go, if there are any."""
    online = name.removesuffix(AHEAD)
    return online if online in names else name


def only(adapters: Mapping[str, OfferedAdapter], name: str | None) -> OfferedAdapter:
    """The adapter of that name, or the only one.

    Raises:
        InvalidInput: There is none of that name, or several and no name was given.
    """
    if name is None and len(adapters) == 1:
        return next(iter(adapters.values()))
    if name is not None and name in adapters:
        return adapters[name]
    raise InvalidInput(
        f"attach: the host has {', '.join(sorted(adapters))}" + (f", and not {name}." if name else "."),
        hint="Name one of them: adapter_name=….",
    )
