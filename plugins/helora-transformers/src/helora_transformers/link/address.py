"""Addresses of a link, ``tcp://host:port`` and ``unix:///path``: how they are read, listened at and connected to."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from helora_core.errors import ConnectionLost, InvalidInput

_POSSIBLE = "Write tcp://127.0.0.1:7461, or unix:///run/helora.sock."


class Address(NamedTuple):
    """One end of a link.

    Attributes:
        host, port: Of TCP.
        path: Of a Unix socket; empty for TCP.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix://{self.path}" if self.path else f"tcp://{host}:{self.port}"


def parse(address: str) -> Address:
    """Read an address.

    Raises:
        InvalidInput: Its scheme is another, or it lacks a port or a path.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in ("tcp", "unix"):
        other = " It is one for serving (helora serve)." if scheme in ("ws", "wss", "http", "https") else ""
        raise InvalidInput(f"Link: {address!r} is no address of a link.{other}", hint=_POSSIBLE)
    if scheme == "unix":
        if not rest.startswith("/") or rest.endswith("/"):
            raise InvalidInput(f"Link: {address!r} has no absolute path of a socket.", hint=_POSSIBLE)
        return Address(path=rest)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # brackets that do not match, or a port that is no number
        raise InvalidInput(f"Link: {address!r} has no port from 0 to 65535.", hint=_POSSIBLE) from None
    if not parts.hostname or port is None or parts.username is not None or parts.path or parts.query or parts.fragment:
        raise InvalidInput(f"Link: {address!r} is not a host and a port.", hint=_POSSIBLE)
    return Address(host=parts.hostname, port=port)


def dial(address: Address, timeout: float) -> socket.socket:
    """A connected socket.

    Raises:
        ConnectionLost: Nobody answers there.
        InvalidInput: There are no Unix sockets on this system.
    """
    try:
        if not address.path:
            connected = socket.create_connection((address.host, address.port), timeout)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        connected = _unix_socket()
        try:
            connected.settimeout(timeout)
            connected.connect(address.path)
        except BaseException:
            connected.close()
            raise
        return connected
    except OSError as error:
        raise ConnectionLost(
            f"Link: nobody answers at {address} ({error.strerror or error}).",
            hint=f"Start the server there: helora link served --listen {address}",
        ) from error


def listen(address: Address, *, anywhere: bool = False) -> tuple[socket.socket, Address]:
    """A listening socket, and its address with the port that the system chose if port 0 was asked for.

    Args:
        address: Where.
        anywhere: Let TCP listen at other addresses than the loopback ones.

    Raises:
        InvalidInput: The address is not the machine's own loopback; or it is in use, or cannot be listened at.
    """
    try:
        if address.path:
            return _listen_unix(address.path), address
        family, _, _, _, name = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if not anywhere and not ipaddress.ip_address(str(name[0]).partition("%")[0]).is_loopback:
            raise InvalidInput(
                f"Link: {address} is open to other machines, and a link neither encrypts nor authenticates.",
                hint="Listen at 127.0.0.1 or a Unix socket, behind an SSH tunnel for instance; or accept what "
                "docs/link.md says of it by --insecure-plain-tcp.",
            )
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it lets two processes listen at one port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(name)
            listening.listen()
        except BaseException:
            listening.close()
            raise
        return listening, Address(host=address.host, port=listening.getsockname()[1])
    except OSError as error:
        raise InvalidInput(
            f"Link: {address} cannot be listened at ({error.strerror or error}).", hint="Choose another address."
        ) from error


def _listen_unix(path: str) -> socket.socket:
    listening = _unix_socket()
    try:
        _remove_left_behind(path)
        listening.bind(path)
        os.chmod(path, 0o600)  # before anybody can connect
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_left_behind(path: str) -> None:
    """Remove the socket of a server that is gone. One at which somebody listens stays, and so does any other file."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with _unix_socket() as probe:
            try:
                probe.settimeout(1)
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()


def _unix_socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise InvalidInput("Link: this system has no Unix sockets.", hint="Use tcp://127.0.0.1:7461.")
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
