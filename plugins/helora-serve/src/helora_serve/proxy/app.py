"""The routes of OpenAI's API that are here, as an ASGI application."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from helora_serve.proxy import completions, sse
from helora_serve.proxy.answering import Answering
from helora_serve.proxy.asked import Admit, Begun, Ended, Told, admit_all
from helora_serve.proxy.completions import Chat, Completion, Text
from helora_serve.proxy.failures import Failure, failure_of
from helora_serve.proxy.guard import Guard, body_of, refusal
from helora_serve.proxy.schemas import MOST_BODY_BYTES, ChatRequest, CompletionRequest, read_aside

Noted = Callable[[dict[str, Any]], object]
"""Called with what is known of each request that has ended: counts and times, and nothing of its text."""

Answer = AsyncGenerator[Told | Ended, None]
Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


def application(
    answering: Answering,
    *,
    hosts: Iterable[str] = (),
    origins: Iterable[str] = (),
    most_body_bytes: int = MOST_BODY_BYTES,
    noted: Noted = lambda what: None,
) -> ASGIApp:
    """The proxy.

    Args:
        answering: What answers.
        hosts, origins: As for ``Guard``.
        most_body_bytes: The most bytes of a request.
        noted: Called with what is known of each answer that has ended.
    """
    proxy = Endpoints(answering, most_body_bytes, noted)
    routes = [
        Route("/v1/models", _told(proxy.models)),
        Route("/v1/models/{name:path}", _told(proxy.model)),
        Route("/v1/chat/completions", _told(proxy.chat), methods=["POST"]),
        Route("/v1/completions", _told(proxy.completion), methods=["POST"]),
    ]
    handlers: Any = {HTTPException: _not_found}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), hosts=hosts, origins=origins)


def _told(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose errors are told to the client and to nobody else: what is logged of them could be private."""

    @functools.wraps(endpoint)
    async def telling(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            return refusal(failure_of(error))

    return telling


async def _not_found(request: Request, error: Exception) -> Response:
    """Another path, or another method."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (404, None)
    message = "This proxy has /v1/models, /v1/chat/completions and /v1/completions."
    return refusal(Failure(status, message, code="not-found", headers=dict(headers or {})))


class Endpoints:
    """The endpoints, for requests that are let in already. They raise what is to be told.

    Args:
        answering, most_body_bytes, noted: As ``application`` takes them.
    """

    def __init__(self, answering: Answering, most_body_bytes: int, noted: Noted) -> None:
        self._answering, self._most, self._noted = answering, most_body_bytes, noted
        self._since = int(time.time())

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        names = self._answering.models.names
        return _json({"object": "list", "data": [completions.model(name, self._since) for name in names]})

    async def model(self, request: Request) -> Response:
        """``GET /v1/models/NAME``."""
        name = request.path_params["name"]
        if name not in self._answering.models.names:
            raise Failure(404, "There is no such model here.", code="model_not_found", param="model")
        return _json(completions.model(name, self._since))

    async def chat(self, request: Request, admit: Admit = admit_all) -> Response:
        """``POST /v1/chat/completions``."""
        return await self._respond(
            request, await read_aside(await body_of(request, self._most), ChatRequest), Chat, admit
        )

    async def completion(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        return await self._respond(
            request, await read_aside(await body_of(request, self._most), CompletionRequest), Text
        )

    async def _respond(
        self, request: Request, wanted: ChatRequest | CompletionRequest, form: type[Chat], admit: Admit = admit_all
    ) -> Response:
        answer = self._noting(self._answering.answer(replace(wanted.asked(), admit=admit)), wanted.model)
        completion = Completion(wanted.model, form, usage_wanted=wanted.usage_wanted)
        try:
            if not wanted.stream:
                return await _while_connected(request.receive, _whole(answer, completion))
            # The status is that of the first token: whatever fails before is no stream that breaks off.
            begun = await _while_connected(request.receive, _first(answer))
        except _Disconnected:
            return Response(status_code=499)
        return _Stream(begun, answer, completion)

    async def _noting(self, answer: Answer, model: str) -> Answer:
        """The same answer, which is noted when it has ended."""
        began = time.monotonic()
        what: dict[str, Any] = {"event": "answered", "model": model}
        try:
            async with aclosing(answer):
                async for each in answer:
                    if isinstance(each, Ended):
                        what |= {
                            "mode": each.facts.mode, "finish_reason": each.reason, "prompt_tokens": each.prompt_tokens,
                            "cached_tokens": each.cached_tokens, "completion_tokens": each.completion_tokens,
                        }  # fmt: skip
                    yield each
        except (GeneratorExit, asyncio.CancelledError):
            if "mode" not in what:
                what |= {"event": "cancelled"}
            raise
        except BaseException as error:
            failure = failure_of(error)
            known = model if model in self._answering.models.names else None
            what = {"event": "refused", "model": known, "status": failure.status, "code": failure.code}
            raise
        finally:
            self._noted({**what, "seconds": round(time.monotonic() - began, 3)})


class _Stream(Response):
    """An answer as server-sent events, which ends with its text or with an event that says what failed."""

    def __init__(self, begun: Begun | Ended, answer: Answer, completion: Completion) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", **completions.headers(begun.facts)}
        super().__init__(None, 200, headers, media_type=None)
        self.headers["content-type"] = sse.MEDIA_TYPE
        del self.headers["content-length"]
        self._begun, self._answer, self._completion = begun, answer, completion

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(_Disconnected):
            await _while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._answer):
            async for data in self._events():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        try:
            for each in self._completion.begun():
                yield sse.event(each)
            ended = self._begun if isinstance(self._begun, Ended) else None
            async for told in self._answer:
                if isinstance(told, str):
                    yield sse.event(self._completion.piece(told))
                elif isinstance(told, Ended):
                    ended = told
            for each in self._completion.ended(_required(ended)):
                yield sse.event(each)
        except Exception as error:
            yield sse.event(failure_of(error).to_dict())
        else:
            yield sse.DONE


async def _first(answer: Answer) -> Begun | Ended:
    """The first that is told of an answer: that it has begun, or has ended without a token."""
    first = await answer.__anext__()
    if isinstance(first, str):
        raise TypeError("text came before it was told that the answer has begun")
    return first


async def _whole(answer: Answer, completion: Completion) -> Response:
    pieces, ended = [], None
    async with aclosing(answer):
        async for each in answer:
            if isinstance(each, str):
                pieces.append(each)
            elif isinstance(each, Ended):
                ended = each
    facts = _required(ended).facts
    return _json(completion.whole("".join(pieces), _required(ended)), completions.headers(facts))


def _required(ended: Ended | None) -> Ended:
    if ended is None:
        raise TypeError("the answer did not end")
    return ended


class _Disconnected(Exception):
    """Nobody waits for the response any more."""


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is cancelled if the client is gone.

    Raises:
        _Disconnected: It is.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            result: T = tasks[0].result()
            return result
        raise _Disconnected
    finally:
        await _cancelled(tasks)


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _json(document: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), headers=headers, media_type="application/json")
