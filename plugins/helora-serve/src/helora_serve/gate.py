"""Who is let in: the check of who asks, of sockets and bodies, before anything is read; refusals as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from helora_core.errors import HeloraError, LimitExceeded
from helora_serve.auth import Identity
from helora_serve.certificates import certificate_of
from helora_serve.channel import Channel, Frames, WebSocketChannel, require_length
from helora_serve.frames import FRAME_OVERHEAD
from helora_serve.refusals import RefusalDocument, Refusing
from helora_serve.service import Service
from helora_serve.socket import accepted

JSON = "application/json"

Handler = Callable[[Request, Identity], Awaitable[Response]]
Shaped = Callable[[Exception], tuple[str, Response]]
"""What a route of another shape answers to an error, and its code."""
Run = Callable[[Channel, Identity], Awaitable[None]]


class Gate:
    """In front of a service's routes.

    Args:
        service: The service.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def guarded(self, handler: Handler, shaped: Shaped | None = None) -> Callable[[Request], Awaitable[Response]]:
        """A handler behind the check of who asks; refusals become JSON, of a shape of their own if they have one."""

        async def handle(request: Request) -> Response:
            try:
                identity = self._service.access.identity(request.headers, certificate=certificate_of(request.scope))
                return await handler(request, identity)
            except Exception as error:
                if shaped is not None:
                    code, response = shaped(error)
                    self._service.metrics.refusals.labels(code).inc()
                    return response
                if isinstance(error, HeloraError | Refusing):
                    return self._refused(error if isinstance(error, Refusing) else Refusing(error))
                raise

        return handle

    def sockets(self, subprotocol: str, run: Run) -> Callable[[WebSocket], Awaitable[None]]:
        """An endpoint of WebSockets: each is accepted and run, or refused before."""
        service = self._service

        async def handle(socket: WebSocket) -> None:
            try:
                subprotocols, certificate = socket.scope.get("subprotocols", ()), certificate_of(socket.scope)
                identity = service.access.identity(socket.headers, subprotocols, certificate=certificate)
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

        return handle

    def posts(self, run: Run) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint of POSTs, each of which is a socket that lasts as long as its answer."""
        service, limits = self._service, self._service.limits

        async def handle(request: Request, identity: Identity) -> Response:
            chunked = "transfer-encoding" in request.headers  # then the other header may say anything
            require_length("" if chunked else request.headers.get("content-length", ""), limits.post_bytes)
            self._require_socket()

            async def counted(channel: Channel) -> None:
                service.sockets += 1
                try:
                    await run(channel, identity)
                finally:
                    service.sockets -= 1

            most = limits.message_bytes + FRAME_OVERHEAD
            return Frames(counted, most=most, stall_s=limits.stall_s, seconds=limits.post_s)

        return self.guarded(handle)

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
