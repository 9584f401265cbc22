"""The routes of mode ``hosted``, whose errors are of OpenAI's shape."""

from __future__ import annotations

import logging
from collections import Counter

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from helora_serve.auth import Identity
from helora_serve.gate import JSON, Gate
from helora_serve.hosted.compare import CompareRequest, compare
from helora_serve.hosted.serving import Hosted
from helora_serve.proxy.app import Endpoints
from helora_serve.proxy.failures import BAD_REQUEST, SERVER_ERROR, TOO_MANY, Failure, failure_of
from helora_serve.proxy.guard import body_of, refusal
from helora_serve.proxy.schemas import read_aside
from helora_serve.proxy.turns import Closed, Full
from helora_serve.refusals import Refusing, refusal_of

_LOG = logging.getLogger("helora.serve.hosted")
MOST_BODY_BYTES = 256 << 10


def hosted_routes(hosted: Hosted, gate: Gate) -> list[BaseRoute]:
    """``POST /v1/chat/completions`` and ``POST /v1/chat/compare``."""
    turns, waiting = hosted.comparing, Counter[str]()
    most_waiting = max(1, hosted.limits.hosted_waiting // 2)
    endpoints = Endpoints(hosted.answering, MOST_BODY_BYTES, hosted.noted)

    async def completing(request: Request, identity: Identity) -> Response:
        who = identity.place
        if identity.name and waiting[who] > most_waiting:  # one is answered, and so many wait
            raise Failure(
                429, f"{most_waiting} of your requests wait already. Try again later.", TOO_MANY, "queue-full",
                headers={"retry-after": "10"},
            )  # fmt: skip
        waiting[who] += 1
        try:
            return await endpoints.chat(request, hosted.meter.admit(identity))
        finally:
            waiting[who] -= 1
            if not waiting[who]:
                del waiting[who]

    async def comparing(request: Request, identity: Identity) -> Response:
        asked = await read_aside(await body_of(request, MOST_BODY_BYTES), CompareRequest)

        async def wanted() -> bool:
            return not await request.is_disconnected()

        try:
            await turns.take()
        except (Full, Closed):
            raise Failure(
                429, f"{hosted.limits.hosted_waiting} comparisons wait already. Try again later.", TOO_MANY,
                "queue-full", headers={"retry-after": "10"},
            ) from None  # fmt: skip
        try:
            most, admit = hosted.limits.compare_tokens, hosted.meter.admit(identity)
            found = await compare(
                hosted.whole,
                asked,
                hosted.run,
                most=most,
                at_once=hosted.limits.split_tokens,
                wanted=wanted,
                admit=admit,
            )
        finally:
            turns.release()
        _LOG.info("compared: %d prompt tokens, 3 answers of at most %d", found.prompt_tokens, asked.max_tokens)
        return Response(msgspec.json.encode(found), media_type=JSON)

    return [
        Route("/v1/chat/completions", gate.guarded(completing, _shaped), methods=["POST"]),
        Route("/v1/chat/compare", gate.guarded(comparing, _shaped), methods=["POST"]),
    ]


def _shaped(error: Exception) -> tuple[str, Response]:
    """What is told, of OpenAI's shape."""
    if isinstance(error, Refusing):
        failure = _failure(error)
    else:
        failure = failure_of(error)
        if failure.status >= 500:
            told = refusal_of(error)  # the server's log has its type
            if not isinstance(error, Failure):
                failure.message = f"{told.message} {told.hint}"
    return failure.code or failure.type, refusal(failure)


def _failure(refusing: Refusing) -> Failure:
    told, status = refusing.refusal, refusing.status
    headers = {"connection": "close"} | ({"www-authenticate": "Bearer"} if status == 401 else {})
    kind = TOO_MANY if status == 429 else BAD_REQUEST if status < 500 else SERVER_ERROR
    return Failure(status, f"{told.message} {told.hint}", kind, told.code, headers=headers)
