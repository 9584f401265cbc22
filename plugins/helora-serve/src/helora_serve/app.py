"""HTTP: ``/v1/offer``, ``/v1/keys``, ``/v1/models``, ``/v1/delta``, ``/healthz`` and ``/metrics``; and what other modes
add to them."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from helora_core.errors import InvalidInput
from helora_serve.auth import Identity
from helora_serve.catalogue import Catalogue
from helora_serve.channel import Channel
from helora_serve.frames import PATH, SUBPROTOCOL
from helora_serve.gate import JSON, Gate
from helora_serve.hosted.routes import hosted_routes
from helora_serve.keys import KeyStore
from helora_serve.metrics import CONTENT_TYPE
from helora_serve.mode import CLIENT_KEY, HEADER, HOSTED, SPLIT, modes_of, of_route
from helora_serve.proxy.completions import model
from helora_serve.refusals import Refusing
from helora_serve.service import Service
from helora_serve.sessions import Sessions
from helora_serve.socket import DeltaSocket
from helora_serve.split.routes import split_routes

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LENGTH = re.compile(r"[0-9]{1,15}")


def app_of(service: Service, *, note: str = "", pages: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application of a service.

    Args:
        service: The service; started and stopped with the application.
        note: What the header ``x-helora-insecure`` of every response says; none if empty.
        pages: Routes of pages for browsers.
    """
    endpoints, gate = _Endpoints(service), Gate(service)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if note:
        headers["x-helora-insecure"] = note
    middleware = [Middleware(_Headers, headers=headers, otherwise=service.modes[0])]
    if service.access.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(service.access.origins),
                allow_methods=["GET", "HEAD", "PUT", "POST"],
                allow_headers=["*"],  # OpenAI's client sends some of its own
                expose_headers=[HEADER, "x-helora-warning"],
            )
        )
    return Starlette(
        routes=[
            Route("/healthz", endpoints.health, methods=["GET"]),
            Route("/metrics", gate.guarded(endpoints.metrics), methods=["GET"]),
            Route("/v1/models", gate.guarded(endpoints.models), methods=["GET"]),
            Route("/v1/modes", gate.guarded(endpoints.modes), methods=["GET"]),
            *_of_modes(service, gate),
            *pages,
        ],
        middleware=middleware,
        lifespan=lifespan,
    )


def _of_modes(service: Service, gate: Gate) -> Iterator[BaseRoute]:
    catalogue, keys, sessions = service.catalogue, service.keys, service.sessions
    if catalogue is not None and keys is not None and sessions is not None:
        own = _ClientKey(service, catalogue, keys, sessions)
        yield Route("/v1/offer", gate.guarded(own.offer), methods=["GET"])
        yield Route("/v1/keys/{digest}", gate.guarded(own.keys), methods=["HEAD", "PUT"])
        yield WebSocketRoute(PATH, gate.sockets(SUBPROTOCOL, own.delta))
        yield Route(PATH, gate.posts(own.delta), methods=["POST"])
    if service.split is not None:
        yield from split_routes(service.split, gate)
    if service.hosted is not None:
        yield from hosted_routes(service.hosted, gate)


class _Endpoints:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._began = int(time.time())

    async def health(self, request: Request) -> Response:
        """Whether new sessions are opened."""
        stopping = self._service.draining
        return Response("stopping\n" if stopping else "ok\n", 503 if stopping else 200, media_type="text/plain")

    async def metrics(self, request: Request, identity: Identity) -> Response:
        """For Prometheus."""
        return Response(self._service.count(), media_type=CONTENT_TYPE)

    async def models(self, request: Request, identity: Identity) -> Response:
        """What can be asked in mode ``hosted``, then the adapters of the others, as OpenAI's API lists models."""
        service = self._service
        names = {HOSTED: service.hosted.names if service.hosted is not None else ()}
        if service.split is not None:
            names[SPLIT] = service.split.layers.adapters
        if service.catalogue is not None:
            names[CLIENT_KEY] = tuple(each.name for each in service.catalogue.current.document.adapters)
        rows = [{**model(each, self._began), "mode": mode} for mode, many in names.items() for each in many]
        return Response(msgspec.json.encode({"object": "list", "data": rows}), media_type=JSON)

    async def modes(self, request: Request, identity: Identity) -> Response:
        """What is served here, and what the server sees of each."""
        return Response(msgspec.json.encode(modes_of(self._service.modes)), media_type=JSON)


class _ClientKey:
    """The endpoints of mode ``client-key``."""

    def __init__(self, service: Service, catalogue: Catalogue, keys: KeyStore, sessions: Sessions) -> None:
        self._metrics, self._catalogue, self._keys, self._sessions = service.metrics, catalogue, keys, sessions

    async def offer(self, request: Request, identity: Identity) -> Response:
        """The offer of the current version."""
        version = self._catalogue.current
        return Response(version.json, media_type=JSON, headers={"etag": f'"{version.name}"'})

    async def keys(self, request: Request, identity: Identity) -> Response:
        """Whether keys are here, or takes them in."""
        digest = request.path_params["digest"]
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput("Server: keys are named by their SHA-256.", hint="Write 64 hexadecimal digits.")
        store, limits = self._keys, self._catalogue.current.document.limits
        if request.method == "HEAD":
            return Response(status_code=200 if store.has(identity, digest) else 404)
        length = request.headers.get("content-length", "")
        if not _LENGTH.fullmatch(length):
            raise Refusing(
                InvalidInput("Server: the keys come without their length.", hint="Send Content-Length."), status=411
            )
        if store.has(identity, digest):
            return Response(status_code=200)
        await store.put(identity, digest, int(length), limits.key_bytes, request.stream())
        self._metrics.keys.inc()
        return Response(status_code=201)

    async def delta(self, channel: Channel, identity: Identity) -> None:
        """One socket."""
        await DeltaSocket(channel, self._sessions, identity).run()


class _Headers:
    """Adds headers to every response that does not have them, and the mode of its route."""

    def __init__(self, app: ASGIApp, headers: dict[str, str], otherwise: str) -> None:
        self._app, self._otherwise = app, otherwise
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self._headers, (HEADER.encode(), of_route(scope.get("path", ""), self._otherwise).encode())]

        async def sending(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message["headers"] = own + [each for each in headers if each[0] not in names]
            await send(message)

        await self._app(scope, receive, sending)
