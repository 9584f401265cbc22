"""The routes of mode ``hosted``, whose errors are of OpenAI's shape."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from helora_serve.auth import Access
from helora_serve.gate import JSON
from helora_serve.hosted.compare import CompareRequest, InThread, compare
from helora_serve.hosted.whole import Whole
from helora_serve.limits import Limits
from helora_serve.proxy.failures import BAD_REQUEST, SERVER_ERROR, TOO_MANY, Failure, failure_of
from helora_serve.proxy.guard import body_of, refusal
from helora_serve.proxy.schemas import read
from helora_serve.proxy.turns import Closed, Full, Turns
from helora_serve.refusals import Refusing

_LOG = logging.getLogger("helora.serve.hosted")
_WAITING = 4
MOST_BODY_BYTES = 256 << 10


def hosted_routes(whole: Whole, run: InThread, access: Access, limits: Limits) -> list[BaseRoute]:
    """``POST /v1/chat/compare``.

    Args:
        whole: The model.
        run: Has work done in its thread.
        access: Who is served.
        limits: The limits.
    """
    turns = Turns(_WAITING)

    async def comparing(request: Request) -> Response:
        access.identity(request.headers)
        asked = read(await body_of(request, MOST_BODY_BYTES), CompareRequest)

        async def wanted() -> bool:
            return not await request.is_disconnected()

        try:
            await turns.take()
        except (Full, Closed):
            raise Failure(
                429, f"{_WAITING} comparisons wait already. Try again later.", TOO_MANY, "queue-full",
                headers={"retry-after": "10"},
            ) from None  # fmt: skip
        try:
            found = await compare(whole, asked, run, most=limits.compare_tokens, wanted=wanted)
        finally:
            turns.release()
        _LOG.info("compared: %d prompt tokens, 3 answers of at most %d", found.prompt_tokens, asked.max_tokens)
        return Response(msgspec.json.encode(found), media_type=JSON)

    return [Route("/v1/chat/compare", _told(comparing), methods=["POST"])]


def _told(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def telling(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusing as refusing:
            return refusal(_failure(refusing))
        except Exception as error:
            return refusal(failure_of(error))

    return telling


def _failure(refusing: Refusing) -> Failure:
    """A refusal of the server's, of OpenAI's shape."""
    told, status = refusing.refusal, refusing.status
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    kind = TOO_MANY if status == 429 else BAD_REQUEST if status < 500 else SERVER_ERROR
    return Failure(status, f"{told.message} {told.hint}", kind, told.code, headers=headers)
