"""The routes of mode ``split``."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from helora_core.errors import InvalidInput
from helora_serve.auth import Identity
from helora_serve.channel import Channel
from helora_serve.gate import JSON, Gate
from helora_serve.split.frames import PATH, SUBPROTOCOL
from helora_serve.split.offer import SplitOffer
from helora_serve.split.sessions import SplitSessions
from helora_serve.split.socket import SplitSocket


def split_routes(sessions: SplitSessions, gate: Gate) -> list[BaseRoute]:
    """``/v1/split``, by WebSocket and POST, its offer and its self-test."""
    running: dict[str | None, asyncio.Task[Any]] = {}

    async def run(channel: Channel, identity: Identity) -> None:
        await SplitSocket(channel, sessions, identity).run()

    async def offer(request: Request, identity: Identity) -> Response:
        return Response(msgspec.json.encode(offer_of(sessions)), media_type=JSON)

    async def selftest(request: Request, identity: Identity) -> Response:
        layers = sessions.layers
        adapter = request.query_params.get("adapter") or next(iter(layers.adapters), None)
        if adapter is not None and adapter not in layers.adapters:
            raise InvalidInput("Split: there is no such adapter.", hint=f"There is {', '.join(layers.adapters)}.")
        if adapter not in running:  # those who ask at the same time get the same result
            running[adapter] = asyncio.create_task(sessions.run(lambda: layers.selftest(adapter)))
            running[adapter].add_done_callback(lambda _: running.pop(adapter))
        return Response(msgspec.json.encode(await asyncio.shield(running[adapter])), media_type=JSON)

    return [
        WebSocketRoute(PATH, gate.sockets(SUBPROTOCOL, run)),
        Route(PATH, gate.posts(run), methods=["POST"]),
        Route(f"{PATH}/offer", gate.guarded(offer), methods=["GET"]),
        Route(f"{PATH}/selftest", gate.guarded(selftest), methods=["GET"]),
    ]


def offer_of(sessions: SplitSessions) -> SplitOffer:
    """What is offered."""
    layers = sessions.layers
    return SplitOffer(
        base=layers.base,
        adapters=layers.adapters,
        encrypted=layers.encrypted,
        most_tokens=sessions.most_tokens,
        most_positions=sessions.most_positions,
        ttl_s=sessions.limits.ttl_s,
    )
