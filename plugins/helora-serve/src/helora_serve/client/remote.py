"""``connect``: a server of helora, wherever it is."""

from __future__ import annotations

import hashlib
import logging
import ssl
import threading
from pathlib import Path
from typing import Literal, get_args

import msgspec

from helora_core.errors import ConnectionLost, CorruptPayload, InvalidInput, LimitExceeded, VersionMismatch
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed
from helora_core.parties.offer import MOST_OFFER_BYTES
from helora_serve.client.http import Http
from helora_serve.client.patience import DEFAULT_RESTART_S
from helora_serve.client.post import PostWire
from helora_serve.client.resuming import Delta, Resuming
from helora_serve.client.session import RemoteSession
from helora_serve.client.target import Target, context, parse
from helora_serve.client.wire import Carrier, HandshakeRefused, Wire, WireBroken
from helora_serve.frames import PATH, SUBPROTOCOL, Open
from helora_serve.offer import FORMAT, SCHEMA, OfferDocument

DEFAULT_TIMEOUT_S = 60.0
Transport = Literal["auto", "websocket", "http"]

_LOG = logging.getLogger("helora.serve.client")


def connect(
    address: str,
    *,
    token: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
    restart: float = DEFAULT_RESTART_S,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    insecure: bool = False,
    transport: Transport = "auto",
) -> Remote:
    """Connect to a server that ``helora serve`` runs.

    Args:
        address: ``https://host`` or ``wss://host``, with port and path if need be; ``http://`` on this machine.
        token: The bearer token, if the server asks for one.
        timeout: Seconds that the server may be silent, or not be reached, before it is taken for lost.
        restart: Seconds in which connections of a session may be refused, since nobody listens, before the server is
            taken for lost: as long as it takes to start it again.
        ca: PEM file with the authority of the server's certificate; those of the system if None.
        certificate, key: PEM files of the client's own certificate, if the server asks for one.
        insecure: Accept an address without TLS on another machine.
        transport: ``websocket``; ``http`` for a POST a request, where there are no WebSockets; ``auto`` for WebSockets,
            and HTTP once something on the way has refused one.

    Raises:
        InvalidInput: The address is none, or not secure; or a certificate cannot be read.
        ConnectionLost: Nobody answers there.
        AccessRefused: The server asks for a token, and this is none of its own.
        CorruptPayload, VersionMismatch: What answers is no server of helora, or of another version.
    """
    return Remote(
        connector(
            address, token=token, timeout=timeout, restart=restart, ca=ca, certificate=certificate, key=key,
            insecure=insecure, transport=transport,
        )
    )  # fmt: skip


def connector(
    address: str,
    *,
    token: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
    restart: float = DEFAULT_RESTART_S,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    insecure: bool = False,
    transport: Transport = "auto",
) -> Connector:
    """How a server is reached: arguments and errors as ``connect``'s, but nothing is asked yet."""
    target = parse(address, insecure=insecure)
    if transport not in get_args(Transport):
        raise InvalidInput(
            f"Connect: there is no transport {transport}.", hint=f"Choose one of {', '.join(get_args(Transport))}."
        )
    return Connector(target, token, timeout, restart, context(target, ca, certificate, key), transport)


class Connector:
    """How a server is reached.

    Args:
        target: Where.
        token: The bearer token.
        timeout, restart: Seconds.
        tls: How TLS is spoken.
        transport: As for ``connect``.

    Attributes:
        transport: The same; ``http`` once a WebSocket was refused.
    """

    def __init__(
        self,
        target: Target,
        token: str | None,
        timeout: float,
        restart: float,
        tls: ssl.SSLContext | None,
        transport: Transport,
    ) -> None:
        self.target, self.timeout, self.restart = target, timeout, restart
        self.transport, self._tls = transport, tls
        self.http = Http(target, tls, token, timeout)

    def dial(
        self, seconds: float, *, path: str = PATH, subprotocol: str = SUBPROTOCOL, resuming: type[Resuming] = Delta
    ) -> Carrier:
        """Another socket, or what stands for one over HTTP. Errors are those of ``Wire``.

        Args:
            seconds: Time for it.
            path, subprotocol: What is spoken, and where.
            resuming: How a session of it is taken up again.
        """
        if self.transport != "http":
            try:
                return Wire(self.target, self._tls, self.http.headers, seconds, path=path, subprotocol=subprotocol)
            except HandshakeRefused:
                if self.transport != "auto":
                    raise
                self.transport = "http"
                _LOG.warning("a WebSocket to %s was refused on the way: HTTP is used from now on", self.target)
        return PostWire(self.http, path, resuming())


class Remote:
    """A server elsewhere: what ``helora_core.Server`` is in this process. A context manager closes its sessions.

    Attributes:
        address: Where it is.
        document: Its whole offer, as it was read last.
    """

    def __init__(self, connector: Connector) -> None:
        self.address = str(connector.target)
        self._connector = connector
        self._lock, self._sessions = threading.Lock(), set[RemoteSession]()
        self.document = self._read()

    @property
    def transport(self) -> Transport:
        """``http`` if frames go by POST: because it was asked for, or because a WebSocket was refused on the way."""
        return self._connector.transport

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def offer(self) -> bytes:
        """The server's offer, for ``Client``: it is asked for again. Errors are those of ``connect``."""
        self.document = self._read()
        return bytes(self.document.delta)

    def open(self, evaluation_keys: bytes) -> RemoteSession:
        """A session. The keys are sent unless the server has them.

        Args:
            evaluation_keys: The result of ``Client.evaluation_keys``.

        Raises:
            ConnectionLost: The server cannot be reached.
            LimitExceeded: The keys are longer than the server reads, or it has as many sessions as it allows.
            VersionMismatch: The offer has changed since it was read.
            HeloraError: As ``Server.open`` raises it.
        """
        document = self.document
        if len(evaluation_keys) > document.limits.key_bytes:
            raise LimitExceeded(
                f"Server: {len(evaluation_keys)} bytes of keys; it reads at most {document.limits.key_bytes}.",
                hint="Make the keys of this server's offer.",
            )
        digest = hashlib.sha256(evaluation_keys).hexdigest()

        def opening() -> Open:
            path = f"/v1/keys/{digest}"
            if not self._connector.http.has(path):
                self._connector.http.put(path, evaluation_keys)
            return Open(version=document.version, keys=digest)

        opening()  # refusals of keys are met before there is a socket
        try:
            session = RemoteSession(
                self._connector.dial, opening, self.address, self._connector.timeout, self._over,
                restart=self._connector.restart,
            )  # fmt: skip
        except WireBroken as error:
            raise ConnectionLost(
                f"Server: no session at {self.address} ({error}).", hint="Check the address, and try again."
            ) from error
        with self._lock:
            self._sessions.add(session)
        return session

    def close(self) -> None:
        """Close all sessions."""
        with self._lock:
            sessions = list(self._sessions)
        for each in sessions:
            each.close()

    def _over(self, session: RemoteSession) -> None:
        with self._lock:
            self._sessions.discard(session)

    def _read(self) -> OfferDocument:
        body = self._connector.http.get("/v1/offer")
        try:
            head = strict_json.decode(body, _Head, most=2 * MOST_OFFER_BYTES)
            if head.format != FORMAT:
                raise Malformed("has another format")
            if head.schema != SCHEMA:
                raise VersionMismatch(
                    f"Offer: of schema {head.schema}; this helora-serve reads schema {SCHEMA}.",
                    hint="Use the same version of helora-serve on both sides.",
                )
            return strict_json.decode(body, OfferDocument, most=2 * MOST_OFFER_BYTES)
        except Malformed as error:
            raise CorruptPayload(
                f"What answers at {self.address} is no server of helora: its offer {error.reason}.",
                hint="Check the address.",
            ) from error


class _Head(msgspec.Struct):
    format: str
    schema: int
