"""Tells the application by which certificate a client came: uvicorn keeps that to itself."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_STATE = "helora.certificate"


class CertifiedProtocol(H11Protocol):
    """HTTP on one connection, and what WebSockets begin as. Its certificate's SHA-256 is in the state of each scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected, and TLS has accepted its certificate."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        found = None if tls is None else tls.getpeercert(binary_form=True)
        if found:
            self.app_state = {**self.app_state, _STATE: hashlib.sha256(found).hexdigest()}


def certificate_of(scope: Mapping[str, Any]) -> str:
    """SHA-256 of the certificate that a client showed, in hexadecimal; empty if it was not asked for one."""
    found: str = scope.get("state", {}).get(_STATE, "")
    return found
