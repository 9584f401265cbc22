"""``connect``: a host elsewhere, over a link or, with the plugin ``helora-serve``, over WebSockets."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from helora_core.errors import InvalidInput
from helora_core.installing import install_line
from helora_core.parties.result import Link

SERVED = ("ws", "wss", "http", "https")
"""Schemes of addresses that ``helora serve`` prints."""


class RemoteHost(Protocol):
    """A host elsewhere. A context manager ends its sessions.

    Attributes:
        address: Where it is.
    """

    address: str

    def __enter__(self) -> RemoteHost: ...

    def __exit__(self, *raised: object) -> None: ...

    def offer(self) -> bytes:
        """Its offer, for ``Client``."""
        ...

    def open(self, evaluation_keys: bytes) -> Link:
        """A session for the client of these keys."""
        ...

    def close(self) -> None:
        """End its sessions."""
        ...


def connect(address: str, **options: Any) -> RemoteHost:
    """Connect to a host.

    Args:
        address: ``https://…`` or ``wss://…`` of ``helora serve``, and on this machine ``http://…``; ``tcp://…`` or
            ``unix:///…`` of ``helora link``.
        options: ``timeout``, in seconds; and for ``helora serve`` those of ``helora_serve.client.connect``, such as
            ``token``.

    Raises:
        InvalidInput: The address or an option is of no such host; or ``helora-serve`` is not installed.
        ConnectionLost: Nobody answers there.
        HeloraError: As the two raise it.
    """
    if address.partition("://")[0] in SERVED:
        if find_spec("helora_serve") is None:
            raise InvalidInput(
                f"Connect: {address} is a server of helora-serve, which is not installed.",
                hint=f"Install it: {install_line('serve')}",
            )
        served: RemoteHost = import_module("helora_serve.client").connect(address, **options)
        return served
    from helora_transformers.link.remote import connect as link

    if unknown := sorted(set(options) - {"timeout"}):
        raise InvalidInput(
            f"Connect: {address} is a link, which takes no {', '.join(unknown)}.",
            hint="Leave that out; helora serve has tokens and certificates.",
        )
    return link(address, **options)
