"""A tiny base model with an encrypted adapter at a host, behind a proxy. Without torch and PEFT it is left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

MISSING = [name for name in ("torch", "transformers", "peft", "openai") if find_spec(name) is None]
if MISSING and os.environ.get("HELORA_REQUIRE_MODELS"):
    raise pytest.UsageError(f"HELORA_REQUIRE_MODELS: not installed: {', '.join(MISSING)}")
collect_ignore_glob = ["test_*.py"] if MISSING else []
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What libraries say about their own code is no error here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(r"ignore::DeprecationWarning:torch\..*"))
            item.add_marker(pytest.mark.filterwarnings(r"ignore::DeprecationWarning:openai\..*"))


class Place:
    """Folders of a base model and an adapter, and the adapter as it is served."""

    def __init__(self, folder: Path) -> None:
        import helora_core as helora
        from helora_transformers.tiny import adapted, save_tiny

        self.base, self.adapter = save_tiny(folder / "base"), folder / "adapter"
        adapted("llama", self.adapter, targets=["q_proj", "v_proj"])
        self.compiled = helora.compile(self.adapter, backend="rns", packing="rank_bsgs")

    def server(self, *names: str) -> Any:
        """What serves the adapter, under each of these names."""
        import helora_core as helora

        return helora.Server(dict.fromkeys(names, self.compiled) if names else self.compiled)

    def loaded(self) -> tuple[Any, Any]:
        """The base model and its tokenizer."""
        from helora_transformers.models import load_base

        return load_base(str(self.base))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("models"))


@pytest.fixture
def hosting(place: Place) -> Iterator[Callable[..., Any]]:
    """``hosting(*names)``: a host that has the adapter under these names, until the test is over."""
    from helora_transformers.link.host import Host

    with ExitStack() as stack:

        def start(*names: str, address: str = "tcp://127.0.0.1:0") -> Any:
            host = Host(place.server(*names), address)
            stack.callback(host.stop)
            return host

        yield start


@pytest.fixture
def serving_host(place: Place, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``serving_host()``: the address of ``helora serve`` on this machine, without TLS, until the test is over."""
    place.compiled.save(tmp_path / "served")
    command = [sys.executable, "-m", "helora_core", "serve", str(tmp_path / "served"), "--port", "0", "--json"]
    started: list[subprocess.Popen[str]] = []

    def start() -> str:
        started.append(subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        assert started[-1].stdout
        return str(json.loads(started[-1].stdout.readline())["address"])

    yield start
    for process in started:
        process.kill()
        process.communicate()


class Asking:
    """A proxy of private models, the models, and OpenAI's client for it."""

    def __init__(self, proxy: Any, models: Any, attachment: Any, client: Any) -> None:
        self.proxy, self.models, self.attachment, self.client = proxy, models, attachment, client

    def text(self, *said: str, **fields: Any) -> str:
        """An answer, whole."""
        return str(self.answer(*said, **fields).choices[0].message.content)

    def answer(self, *said: str, **fields: Any) -> Any:
        """An answer to messages, of the user and the assistant in turn."""
        return self.client.chat.completions.create(**self.fields(*said, **fields))

    def pieces(self, *said: str, **fields: Any) -> list[Any]:
        """The chunks of an answer."""
        return list(self.client.chat.completions.create(**self.fields(*said, stream=True, **fields)))

    @staticmethod
    def fields(*said: str, **fields: Any) -> dict[str, Any]:
        roles = ("user", "assistant")
        messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(said)]
        return {"model": "base:default", "max_tokens": 6, "messages": messages, **fields}


@pytest.fixture
def asking(place: Place, serving: Callable[..., Any]) -> Iterator[Callable[..., Asking]]:
    """``asking(address)``: a proxy whose adapters are at a host, until the test is over."""
    import openai

    from helora_serve.proxy.attachment import Attachment
    from helora_serve.proxy.private_models import PrivateModels
    from helora_transformers import connect

    with ExitStack() as stack:

        def start(address: str, *, loaded: Any = None, **options: Any) -> Asking:
            model, tokenizer = loaded or place.loaded()
            attachment = Attachment(model, lambda: connect(address), where=address, options={})
            stack.callback(attachment.close)
            models = PrivateModels("base", model, tokenizer, attachment)
            proxy = serving(models, **options)
            client = openai.OpenAI(base_url=proxy.url, api_key="sk-not-needed", max_retries=0, timeout=120)
            stack.callback(client.close)
            return Asking(proxy, models, attachment, client)

        yield start
