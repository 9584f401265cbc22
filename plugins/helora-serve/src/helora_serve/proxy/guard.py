"""Lets only programs of this machine in: no page of a browser, whatever name it found the port by.

A page of another origin can send requests to loopback, and by DNS rebinding even read answers: its own name then leads
to 127.0.0.1. It cannot choose the Host header, though, which has that name, nor leave out Origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from helora_serve.proxy.failures import Failure, bad_request

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_METHODS = "GET, POST"
_BODY_S = 30.0


class Guard:
    """Checks Host and Origin before anything else is read.

    Args:
        app: What is guarded.
        hosts: Names, without a port, by which it may be called besides loopback's.
        origins: Origins whose pages may use it, as ``http://localhost:3000``. No others, and none by default.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = LOOPBACK | {host.lower() for host in hosts}
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan; there are no WebSockets here
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._check(headers)
        except Failure as failure:
            await refusal(failure)(scope, receive, send)
            return
        if origin is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_preflight(headers, origin))(scope, receive, send)
        else:
            await self._app(scope, receive, _allowing(send, origin))

    def _check(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _without_port(hosts[0]) not in self._hosts:
            raise Failure(
                421, "The Host header is not one of this proxy's names: it answers programs of this machine, not pages "
                "that found it under another name.", code="host-refused",
            )  # fmt: skip
        origins = headers.getlist("origin")
        if any(each not in self._origins for each in origins):
            raise Failure(
                403, "Pages of this origin may not use this proxy. Its user allows them by --allow-origin.",
                code="origin-refused",
            )  # fmt: skip
        if not origins and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Failure(403, "Pages may not use this proxy.", code="origin-refused")


def refusal(failure: Failure) -> Response:
    """The response that says what was refused."""
    return Response(
        msgspec.json.encode(failure.to_dict()), failure.status, failure.headers, media_type="application/json"
    )


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request in JSON, which is never held if it is longer than ``most`` bytes.

    Raises:
        Failure: It is too long, comes too slowly, or is no JSON by its type.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Failure(415, "The body has to be of type application/json.", code="unsupported-media-type")
    too_long = Failure(413, f"The body has more than {most} bytes.", code="body-too-large")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise too_long
    body = bytearray()

    async def read() -> None:
        async for piece in request.stream():
            body.extend(piece)
            if len(body) > most:
                raise too_long

    try:
        await asyncio.wait_for(read(), _BODY_S)
    except asyncio.TimeoutError:
        raise Failure(408, f"The body did not come within {_BODY_S:g} seconds.", code="body-too-slow") from None
    if not body:
        raise bad_request("The body is empty.", code="invalid_json")
    return bytes(body)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _preflight(headers: Headers, origin: str) -> dict[str, str]:
    wanted = headers.get("access-control-request-headers", "")
    return {
        "access-control-allow-origin": origin, "vary": "Origin", "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": wanted, "access-control-max-age": "600",
    }  # fmt: skip


def _allowing(send: Send, origin: str) -> Send:
    """Tells a browser that this origin may read the response, and helora's headers."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = ", ".join(
                f"x-helora-{each}" for each in ("mode", "leakage", "bits", "audit")
            )
            headers.add_vary_header("Origin")
        await send(message)

    return sending
