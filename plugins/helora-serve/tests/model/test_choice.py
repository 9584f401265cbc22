"""The split page shows which adapters its server has, and the conversation is with the one that is chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_serve.base.convert import convert
from helora_serve.host import Host
from tests.harness.history.chromium import Chromium

ASKED = "where is the lighthouse?"
OPTIONS = "[...document.getElementById('adapter').options].map(each => each.text)"
OFFERED = "document.getElementById('offered').textContent"
NONE = "none: the base model alone"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    folder = tmp_path_factory.mktemp("choice")
    convert(tiny.saved(folder / "model"), folder / "f32", weights="f32", part="ends")
    return folder


@pytest.fixture
def layers(folder: Path, tiny: Any, numpy_layers: Any) -> Any:
    return numpy_layers.NumpyLayers(tiny, folder / "model")


@pytest.fixture
def serve(serving: Any, folder: Path, layers: Any) -> Callable[..., Host]:
    """Starts a server with the page."""
    return lambda **how: serving(layers=layers, host={"ends": folder / "f32"}, **how).host


def text_of(tiny: Any, deltas: Any, most: int) -> str:
    """What the unsplit model answers, as the page shows it."""
    return bytes(tiny.answer_of(ASKED, most, deltas)).decode(errors="replace")


@pytest.mark.parametrize("width", [1400, 390])
def test_the_conversation_is_with_the_adapter_that_is_chosen(
    browser: Chromium, serve: Any, tiny: Any, layers: Any, width: int, tmp_path: Path
) -> None:
    host = serve()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 700)
    answers = {}
    for name in (*layers.adapters, NONE):
        browser.open(f"{host.url}/split")
        browser.wait(f"{OPTIONS}.length === 3")
        assert browser.evaluate(OPTIONS) == [*layers.adapters, NONE]
        assert browser.evaluate(OFFERED) == (
            "The server runs model: 2 layers, up to 128 tokens of a conversation, 2 adapters."
        )
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert len(browser.screenshot(tmp_path / f"{name[:4]}.png")) > 0
        browser.evaluate(
            f"const c = document.getElementById('adapter'); c.selectedIndex = {OPTIONS}.indexOf({name!r}); 0"
        )
        browser.click("#load")
        browser.wait("!document.getElementById('form').hidden")
        says = browser.evaluate("document.getElementById('status').textContent")
        assert says == f"Ready: model{'' if name == NONE else f', adapter {name}'}, mode split."
        browser.evaluate(
            f"document.getElementById('input').value = {ASKED!r}; document.getElementById('form').requestSubmit()"
        )
        browser.wait("document.querySelector('.assistant')?.textContent.length > 3")
        browser.click("#stop")
        browser.wait("!document.getElementById('send').disabled")
        answers[name] = browser.evaluate("document.querySelector('.assistant').textContent")
    for name, shown in answers.items():
        right = text_of(tiny, layers.deltas[None if name == NONE else name], 64)
        assert shown[:4] == right[:4]
    assert len({each[:4] for each in answers.values()}) == 3
    assert browser.complaints == []


def test_a_server_that_asks_for_tokens_says_what_it_has_to_who_has_one(
    browser: Chromium, serve: Any, alice: Any
) -> None:
    tokens, token = alice
    browser.open(f"{serve(tokens=tokens).url}/split")
    browser.wait(f"{OFFERED} !== ''")
    assert "asks for an access token" in browser.evaluate(OFFERED)
    browser.evaluate(
        f"const t = document.getElementById('token'); t.value = {token!r}; t.dispatchEvent(new Event('change')); 0"
    )
    browser.wait(f"{OPTIONS}.length === 3")
    browser.click("#load")
    browser.wait("!document.getElementById('form').hidden")
    assert "adapter legal" in browser.evaluate("document.getElementById('status').textContent")
