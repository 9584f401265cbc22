"""A base model and adapters on this machine and at a host, and ``helora`` away from the user's settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click.testing
import pytest

import helora_core as helora
from helora_core.cli.main import main
from helora_transformers.link.host import Host
from helora_transformers.tiny import adapted, save_tiny

Result = click.testing.Result


class Place(NamedTuple):
    """Folders, and the arguments that name them."""

    base: Path
    adapter: Path

    def __call__(self, adapter: object = None) -> tuple[str, ...]:
        local = () if adapter else ("--packing", "rank_bsgs")
        return ("--base", str(self.base), "--adapter", str(adapter or self.adapter), "--max-new-tokens", "6", *local)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("models")
    adapted("llama", folder / "adapter", targets=["q_proj", "v_proj"])
    return Place(save_tiny(folder / "base"), folder / "adapter")


@pytest.fixture
def hosted(place: Place) -> Iterator[str]:
    """The address of a host that has the adapter twice, as ``one`` and ``two``."""
    compiled = helora.compile(place.adapter, backend="rns", packing="rank_bsgs")
    with Host(helora.Server({"one": compiled, "two": compiled}), "tcp://127.0.0.1:0") as host:
        yield str(host.address)


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("HELORA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HELORA_BACKEND", "rns")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Callable[..., Result]:
    """``helora(*arguments)`` in this process; ``lines`` are what standard input has."""

    def running(*arguments: object, lines: tuple[str, ...] = (), code: int = 0) -> Result:
        typed = "".join(f"{line}\n" for line in lines)
        result = click.testing.CliRunner().invoke(main, [*map(str, arguments)], input=typed, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return running


@pytest.fixture
def refusal(run: Callable[..., Result]) -> Callable[..., Any]:
    """The error with which ``helora(*arguments)`` is refused; nothing else is printed."""

    def running(*arguments: object, **how: Any) -> Any:
        document = json.loads(run(*arguments, "--json", code=1, **how).stdout)
        assert list(document) == ["error"]
        assert document["error"]["hint"]
        return document["error"]

    return running
