"""HTTP: ``/v1/offer``, ``/v1/keys``, ``/v1/models``, ``/v1/delta``, ``/healthz`` and ``/metrics``; and what other modes
add to them."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from helora_core.errors import HeloraError, InvalidInput, LimitExceeded
from helora_serve.auth import Identity
from helora_serve.channel import Channel, Frames, WebSocketChannel, require_length
from helora_serve.frames import FRAME_OVERHEAD, PATH, SUBPROTOCOL
from helora_serve.metrics import CONTENT_TYPE
from helora_serve.mode import HEADER, of_route
from helora_serve.refusals import RefusalDocument, Refusing
from helora_serve.service import Service
from helora_serve.socket import DeltaSocket, accepted

JSON = "application/json"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LENGTH = re.compile(r"[0-9]{1,15}")

Handler = Callable[[Request, Identity], Awaitable[Response]]
Run = Callable[[Channel, Identity], Awaitable[None]]


def app_of(service: Service, *, note: str = "", pages: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application of a service.

    Args:
        service: The service; started and stopped with the application.
        note: What the header ``x-helora-insecure`` of every response says; none if empty.
        pages: Routes of pages for browsers.
    """
    endpoints = _Endpoints(service)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if note:
        headers["x-helora-insecure"] = note
    middleware = [Middleware(_Headers, headers=headers)]
    if service.access.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(service.access.origins),
                allow_methods=["GET", "HEAD", "PUT", "POST"],
                allow_headers=["authorization", "content-type"],
                expose_headers=[HEADER],
            )
        )
    return Starlette(
        routes=[
            Route("/healthz", endpoints.health, methods=["GET"]),
            Route("/metrics", endpoints.guarded(endpoints.metrics), methods=["GET"]),
            Route("/v1/offer", endpoints.guarded(endpoints.offer), methods=["GET"]),
            Route("/v1/models", endpoints.guarded(endpoints.models), methods=["GET"]),
            Route("/v1/keys/{digest}", endpoints.guarded(endpoints.keys), methods=["HEAD", "PUT"]),
            WebSocketRoute(PATH, endpoints.delta),
            Route(PATH, endpoints.guarded(endpoints.delta_by_post), methods=["POST"]),
            *pages,
        ],
        middleware=middleware,
        lifespan=lifespan,
    )


class _Endpoints:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._began = int(time.time())

    def guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler behind the check of who asks; refusals become JSON."""

        async def handle(request: Request) -> Response:
            try:
                identity = self._service.access.identity(request.headers)
                return await handler(request, identity)
            except HeloraError as error:
                return self._refused(Refusing(error))
            except Refusing as refusing:
                return self._refused(refusing)

        return handle

    async def health(self, request: Request) -> Response:
        """Whether new sessions are opened."""
        stopping = self._service.sessions.draining
        return Response("stopping\n" if stopping else "ok\n", 503 if stopping else 200, media_type="text/plain")

    async def metrics(self, request: Request, identity: Identity) -> Response:
        """For Prometheus."""
        return Response(self._service.count(), media_type=CONTENT_TYPE)

    async def offer(self, request: Request, identity: Identity) -> Response:
        """The offer of the current version."""
        version = self._service.catalogue.current
        return Response(version.json, media_type=JSON, headers={"etag": f'"{version.name}"'})

    async def models(self, request: Request, identity: Identity) -> Response:
        """The adapters, as OpenAI's API lists models."""
        adapters = self._service.catalogue.current.document.adapters
        rows = [{"id": each.name, "object": "model", "created": self._began, "owned_by": "helora"} for each in adapters]
        return Response(msgspec.json.encode({"object": "list", "data": rows}), media_type=JSON)

    async def keys(self, request: Request, identity: Identity) -> Response:
        """Whether keys are here, or takes them in."""
        digest = request.path_params["digest"]
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput("Server: keys are named by their SHA-256.", hint="Write 64 hexadecimal digits.")
        store, limits = self._service.keys, self._service.catalogue.current.document.limits
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
        self._service.metrics.keys.inc()
        return Response(status_code=201)

    async def delta(self, socket: WebSocket) -> None:
        """A socket: refused before it is accepted, or run."""
        await self.socket(socket, SUBPROTOCOL, self._delta)

    async def delta_by_post(self, request: Request, identity: Identity) -> Response:
        """A socket that lasts as long as its answer."""
        return self.post(request, identity, self._delta)

    async def socket(self, socket: WebSocket, subprotocol: str, run: Run) -> None:
        """Accept a WebSocket and run it, or refuse it before."""
        service = self._service
        try:
            identity = service.access.identity(socket.headers, socket.scope.get("subprotocols", ()))
            accepted(socket, subprotocol)
            self._require_socket()
        except Refusing as refusing:
            await socket.send_denial_response(self._refused(refusing))
            return
        service.sockets += 1
        try:
            await socket.accept(subprotocol=subprotocol)
            await run(WebSocketChannel(socket, subprotocol), identity)
        finally:
            service.sockets -= 1

    def post(self, request: Request, identity: Identity, run: Run) -> Response:
        """The response to a POST of frames.

        Raises:
            Refusing: Its body has no length, or is too long; or as many sockets are open as may be.
        """
        service = self._service
        limits = service.limits
        require_length(request.headers.get("content-length", ""), limits.post_bytes)
        self._require_socket()

        async def counted(channel: Channel) -> None:
            service.sockets += 1
            try:
                await run(channel, identity)
            finally:
                service.sockets -= 1

        most = limits.message_bytes + FRAME_OVERHEAD
        return Frames(counted, most=most, stall_s=limits.stall_s, seconds=limits.post_s)

    async def _delta(self, channel: Channel, identity: Identity) -> None:
        await DeltaSocket(channel, self._service.sessions, identity).run()

    def _require_socket(self) -> None:
        most = self._service.limits.sockets
        if self._service.sockets >= most:
            raise Refusing(LimitExceeded(f"Server: {most} sockets are open.", hint="Try again later."), retry_s=5.0)

    def _refused(self, refusing: Refusing) -> Response:
        self._service.metrics.refusals.labels(refusing.refusal.code).inc()
        headers = {"www-authenticate": "Bearer"} if refusing.status == 401 else {}
        if refusing.refusal.retry_s is not None:
            headers["retry-after"] = str(max(1, round(refusing.refusal.retry_s)))
        body = msgspec.json.encode(RefusalDocument(error=refusing.refusal))
        # What is left of a request's body is not read: the connection ends.
        return Response(body, refusing.status, {**headers, "connection": "close"}, JSON)


class _Headers:
    """Adds headers to every response that does not have them, and the mode of its route."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self._headers, (HEADER.encode(), of_route(scope.get("path", "")).encode())]

        async def sending(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message["headers"] = own + [each for each in headers if each[0] not in names]
            await send(message)

        await self._app(scope, receive, sending)
