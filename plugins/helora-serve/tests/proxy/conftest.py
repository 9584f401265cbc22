"""A proxy on a port of its own, as ``helora proxy`` runs it, in a thread."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest

from helora_serve.proxy.answering import Answering
from helora_serve.proxy.app import application
from helora_serve.proxy.asked import Asked, Begun, Ended, Facts, Told
from helora_serve.proxy.running import LOOPBACK, Server, listening

LONG_S = 120.0
"""Seconds in which what must happen happens, on a machine that is busy with much else."""

hypothesis.settings.register_profile("proxy", deadline=None)
hypothesis.settings.load_profile("proxy")


class Words:
    """Two models that say the last message's words again, one a token: without torch, to try the proxy itself.

    ``fail`` is raised at ``FAIL``. ``go`` holds every token up while it is not set.
    """

    names = ("words", "words:again")

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.fail: Exception = RuntimeError("the words of a prompt")
        self.asked: list[Asked] = []
        self.said: list[str] = []
        self.closed = False

    def answer(self, asked: Asked, tell: Callable[[Told], object], cancel: threading.Event) -> Ended:
        self.asked.append(asked)
        text = asked.messages[-1]["content"] if asked.messages else asked.prompt
        words, facts = text.split(), Facts("client-key", "nothing", 9.5)
        for number, word in enumerate(words):
            assert self.go.wait(LONG_S)
            if word == "FAIL":
                raise self.fail
            if number == 0:
                tell(Begun(facts))
            self.said.append(word)
            tell(word + " ")
            if cancel.is_set():
                return Ended("cancelled", 1, number + 1, facts)
        return Ended("stop", 1, len(words), facts)

    def close(self) -> None:
        self.closed = True


@dataclass
class Proxy:
    """One that runs.

    Attributes:
        port: Where.
        server: Its server; ``should_exit`` lets it drain.
        noted: What it noted of each answer.
    """

    port: int
    server: Server
    answering: Answering
    noted: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """For clients of OpenAI's API."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, document and headers; underscores in the names of headers are hyphens."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=LONG_S)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {} if data is None else {"content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, data, given)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        shown = {name.lower(): value for name, value in response.getheaders()}
        is_json = shown.get("content-type") == "application/json"
        return response.status, json.loads(text) if is_json else text, shown

    def ask(self, text: str, **fields: Any) -> tuple[int, Any, dict[str, str]]:
        """``POST /v1/chat/completions`` with one message."""
        message = {"role": "user", "content": text}
        return self.request("POST", "/v1/chat/completions", {"model": "words", "messages": [message], **fields})


@contextmanager
def running(models: Any, *, waiting: int = 2, drain_s: float = 5.0, **options: Any) -> Iterator[Proxy]:
    """A proxy of these models."""
    noted: list[dict[str, Any]] = []
    answering = Answering(models, waiting=waiting)
    with listening(LOOPBACK, 0) as sock:
        app = application(answering, noted=noted.append, **options)
        server = Server(app, answering, drain_s=drain_s)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        proxy = Proxy(sock.getsockname()[1], server, answering, noted)
        thread.start()
        try:
            yield proxy
        finally:
            server.should_exit = True
            thread.join(LONG_S)
            assert not thread.is_alive()
            answering.close()


@pytest.fixture
def serving() -> Iterator[Callable[..., Proxy]]:
    """``serving(models, …)``: a proxy until the test is over."""
    with ExitStack() as stack:

        def start(models: Any, **options: Any) -> Proxy:
            return stack.enter_context(running(models, **options))

        yield start


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def proxy(serving: Callable[..., Proxy], words: Words) -> Iterator[Proxy]:
    """A proxy of ``words``."""
    yield serving(words)
    words.go.set()
