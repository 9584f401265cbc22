"""Addresses of a server: ``https://host[:port][/path]`` or ``wss://…``; without TLS for this machine only."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from helora_core.errors import InvalidInput
from helora_serve.auth import is_loopback

SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}
"""Schemes, and whether they are with TLS: the same server is reached by either of two."""

_POSSIBLE = "Write https://adapter-host, or http://127.0.0.1:7460 on this machine."


class Target(NamedTuple):
    """A server.

    Attributes:
        tls: Whether by TLS.
        host, port: Where.
        prefix: What its paths begin with; without a slash at the end.
    """

    tls: bool
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"

    def websocket(self, path: str) -> str:
        """The URL of a WebSocket."""
        return f"{'wss' if self.tls else 'ws'}://{self.authority}{self.prefix}{path}"


def parse(address: str, *, insecure: bool = False) -> Target:
    """Read an address.

    Args:
        address: The address.
        insecure: Accept one without TLS that is not of this machine.

    Raises:
        InvalidInput: It is none; or it is without TLS, and not of this machine.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise InvalidInput(f"Connect: {address!r} is no address of a server.", hint=_POSSIBLE) from None
    tls = SCHEMES.get(parts.scheme)
    if tls is None or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise InvalidInput(f"Connect: {address!r} is no address of a server.", hint=_POSSIBLE)
    if not (tls or insecure or is_loopback(parts.hostname)):
        raise InvalidInput(
            f"Connect: {address} is on another machine, and without TLS: whoever is on the way can answer in its "
            "place, and read the token.",
            hint="Use https://; or accept that by insecure=True, inside a tunnel for instance.",
        )
    return Target(tls, parts.hostname, port or (443 if tls else 80), parts.path.rstrip("/"))


def context(
    target: Target, ca: str | Path | None, certificate: str | Path | None, key: str | Path | None
) -> ssl.SSLContext | None:
    """How TLS is spoken there; None without it.

    Raises:
        InvalidInput: A file cannot be read.
    """
    if not target.tls:
        return None
    try:
        made = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            made.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"Connect: a certificate cannot be read ({error.strerror or error}).", hint="Give PEM files."
        ) from error
    return made
