"""Requests to a server's HTTP side, one connection each."""

from __future__ import annotations

import http.client
import ssl
import time
from contextlib import closing, suppress

from helora_core.errors import ConnectionLost, CorruptPayload
from helora_serve.client.target import Target
from helora_serve.refusals import raised, read_refusal

_MOST_BYTES = 128 << 20
_PIECE = 1 << 20
_PAUSE_S = 0.5
"""Longest pause before what was refused for now is sent again."""


class Http:
    """Asks a server.

    Args:
        target: Where.
        context: How TLS is spoken.
        token: The bearer token; None for none.
        timeout: Seconds that the server may be silent.
    """

    def __init__(self, target: Target, context: ssl.SSLContext | None, token: str | None, timeout: float) -> None:
        self._target, self._context, self._timeout = target, context, timeout
        self.headers = {"authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> bytes:
        """The body at a path. Errors are those of ``ask``."""
        return self.ask("GET", path)[1]

    def has(self, path: str) -> bool:
        """Whether there is something at a path. Errors are those of ``ask``, but for what is not found."""
        return self.ask("HEAD", path, missing=True)[0] != 404

    def put(self, path: str, body: bytes) -> None:
        """Send a body to a path; while the server has no room now, again. Errors are those of ``ask``."""
        self.ask("PUT", path, body, patience=self._timeout)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, missing: bool = False, patience: float = 0.0
    ) -> tuple[int, bytes]:
        """Status and body of an answer.

        Args:
            method, path, body: The request.
            missing: Whether 404 is an answer.
            patience: Seconds in which it is sent again, if it was refused as one to be tried later.

        Raises:
            ConnectionLost: Nobody answers there, or not in time.
            CorruptPayload: What answers is no server of helora.
            HeloraError: As the server refused it.
        """
        until = time.monotonic() + patience
        while True:
            try:
                with closing(self.connection()) as connection:
                    status, answer = self._exchanged(connection, method, self.path(path), body)
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(self._target, error) from error
            if status in (200, 201) or (missing and status == 404):
                return status, answer
            if method == "HEAD":
                raise CorruptPayload(
                    f"{self._target} answered by status {status}.", hint="Check the address and the token."
                )
            refusal = read_refusal(answer)
            if refusal.retry_s is None or time.monotonic() > until:
                raise raised(refusal)
            time.sleep(min(refusal.retry_s, _PAUSE_S))

    def _exchanged(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> tuple[int, bytes]:
        headers = {**self.headers, "content-type": "application/octet-stream"} if body is not None else self.headers
        with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before all is sent
            connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.read(_MOST_BYTES + 1)
        if len(answer) > _MOST_BYTES:
            raise CorruptPayload(f"{self._target} answered {_MOST_BYTES} bytes and more.", hint="Check the address.")
        return response.status, answer

    def path(self, path: str) -> str:
        """A path there, behind what all of them begin with."""
        return self._target.prefix + path

    def connection(self, timeout: float | None = None) -> http.client.HTTPConnection:
        """Another connection, which is made when it is used.

        Args:
            timeout: Seconds that the server may be silent; those of all requests if None.
        """
        host, port, timeout = self._target.host, self._target.port, timeout or self._timeout
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=timeout, blocksize=_PIECE)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context, blocksize=_PIECE)


def unreachable(target: Target, error: Exception) -> ConnectionLost:
    """Nobody answers there."""
    reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or type(error).__name__
    checks = "Check the address, and the authority of its certificate" if target.tls else "Check the address"
    return ConnectionLost(
        f"Server: nobody answers at {target} ({reason}).", hint=f"{checks}; helora serve prints where it listens."
    )
