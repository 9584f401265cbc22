"""The page on the proxy does what it says, on a model of some thousand numbers, and has every option."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "proxy.md"
MISSING = [name for name in ("torch", "transformers", "peft", "helora_serve", "openai") if find_spec(name) is None]
needs_models = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("HELORA_REQUIRE_MODELS"),
    reason=f"not installed: {', '.join(MISSING)} (nox -s models)",
)


@needs_models
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::ResourceWarning")
def test_it_runs_on_a_tiny_model(run_page: Callable[[Path], None], tmp_path: Path) -> None:
    from helora_transformers.tiny import adapted, save_tiny

    save_tiny(tmp_path / "base")
    adapted("llama", tmp_path / "my-lora", targets=["q_proj", "v_proj"])
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    page = tmp_path / "proxy.md"
    page.write_text(PAGE.read_text(encoding="utf-8").replace("8080", str(port)), encoding="utf-8")
    run_page(page)


@pytest.mark.skipif("helora_serve" in MISSING, reason="not installed: helora_serve")
def test_every_option_is_there() -> None:
    from helora_serve.proxy.cli import proxy

    named = [option for each in proxy.params if isinstance(each, click.Option) for option in each.opts[:1]]
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in named if f"`{name}" not in page and f"{name}`" not in page] == []
