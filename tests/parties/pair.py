"""Both parties of modules that are prepared ahead of time, and messages that a client which deviates sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations
from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.compiler.compiled import CompiledModule
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.messages import MaskedUpload, Upload, decode, encode
from helora_core.parties.server import Server
from helora_core.parties.session import Session
from tests.parties.ahead import ASSUME, TRIMMED, prepared_module
from tests.parties.conftest import compiled

SHAPE = ModuleShape.parse("4:3:2")
MODULES = {name: prepared_module(name, seed, SHAPE) for seed, name in enumerate(("q", "v"))}
MODULES["online"] = compiled("online", "rank_bsgs", 0, SHAPE)
MODULES["trimmed"] = prepared_module("trimmed", 3, SHAPE, TRIMMED)
BACKEND = get_manager().load_backend("numpy")


def x_of(tokens: int, seed: int = 0) -> Any:
    return synthetic_activations(SHAPE, tokens, seed=seed)


def server_of(modules: dict[str, CompiledModule] | None = None, **options: Any) -> Server:
    return Server(modules or MODULES, BACKEND, **{"assume": ASSUME, **options})


def client_of(server: Server, **options: Any) -> Client:
    return Client(server.offer(), backend=BACKEND, **options)


@dataclass
class Pair:
    """Both parties."""

    server: Server
    client: Client
    session: Session

    @classmethod
    def of(cls, **options: Any) -> Pair:
        server = server_of(**options)
        client = client_of(server)
        return cls(server, client, server.open(client.evaluation_keys()))

    def prepare(self, modules: Any, correlations: int) -> Any:
        return through(self.client.prepare(modules, correlations), self.session)

    def delta(self, modules: Any, x: Any) -> Any:
        return self.client.delta(modules, x, self.session)


def through(exchange: Any, session: Session) -> Any:
    """An exchange, to its end."""
    while not exchange.done:
        exchange.receive(session.answer(exchange.message()))
    return exchange


def upload_of(message: bytes) -> Any:
    """The content of a message: an ``Upload``, or a ``MaskedUpload``."""
    kind = PayloadKind(envelope.kind_of(message))
    read = MaskedUpload if kind is PayloadKind.MASKED_UPLOAD else Upload
    return decode(envelope.opened(kind, None, message).payload, read)


def altered(message: bytes, **changes: Any) -> bytes:
    """The message with other fields, well sealed."""
    kind = PayloadKind(envelope.kind_of(message))
    opened = envelope.opened(kind, None, message)
    upload = msgspec.structs.replace(upload_of(message), **changes)
    return envelope.wrap(kind, opened.key_id, encode(upload), opened.origin)
