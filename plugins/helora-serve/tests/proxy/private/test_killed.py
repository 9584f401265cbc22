"""Server and proxy as processes: the server is killed, the proxy answers 502, and goes on once the server is back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}


@pytest.fixture
def process() -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, Any]]]]:
    """``process(*words)``: ``helora WORDS --json``, and what it says first."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        command = [sys.executable, "-m", "helora_core", *map(str, words), "--json"]
        started.append(subprocess.Popen(command, **PIPES))
        assert started[-1].stdout
        return started[-1], json.loads(started[-1].stdout.readline())

    yield start
    for each in started:
        each.kill()
        each.communicate()


def test_a_server_that_is_killed_is_a_502_until_it_is_back(process: Any, place: Any, tmp_path: Path) -> None:
    place.compiled.save(tmp_path / "served")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve = ("serve", tmp_path / "served", "--port", port, "--state", tmp_path / "state")
    server, serving = process(*serve)
    _, proxy = process("proxy", serving["address"], "--base", place.base, "--port", 0)
    with openai.OpenAI(base_url=proxy["url"], api_key="none", max_retries=0, timeout=120) as client:

        def asked(model: str = "base:default", most: int = 4, stream: bool = False) -> Any:
            said: Any = [{"role": "user", "content": "w7 w20"}]
            return client.chat.completions.create(model=model, messages=said, max_tokens=most, stream=stream)

        def text(model: str = "base:default") -> str:
            return str(asked(model).choices[0].message.content)

        alone, base = text(), text("base")
        for stream in (True, False):
            if stream:  # killed between two tokens of an answer
                chunks = iter(asked(most=100, stream=True))
                next(chunks)
                server.kill()
                with pytest.raises(openai.APIError) as broken:
                    list(chunks)
                assert broken.value.code == "connection-lost"
            else:  # killed before a request
                server.kill()
            server.wait()
            for streamed in (False, True):
                with pytest.raises(openai.APIStatusError) as refused:
                    asked(stream=streamed)
                assert (refused.value.status_code, refused.value.code) == (502, "connection-lost")
                assert refused.value.response.json()["error"]["type"] == "server_error"
            assert text("base") == base  # nobody was asked for it
            server, _ = process(*serve)
            assert text() == alone
