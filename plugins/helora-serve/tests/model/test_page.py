"""The private page in headless Chromium, under its policy: base model, keys and conversation in the browser."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.request import Constraints
from helora_core.parties.compile import compile
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.server import Server
from helora_core.privacy.leakage import Assumption
from helora_serve.auth import Access
from helora_serve.base.convert import convert
from helora_serve.catalogue import fixed
from helora_serve.host import Host
from helora_serve.limits import Limits
from helora_serve.service import Service, State
from tests.harness.history.chromium import Chromium, find_chromium

if not os.environ.get("HELORA_REQUIRE_BROWSER") and (find_chromium() is None or sys.platform == "win32"):
    pytest.skip("there is no Chromium: install it, or name it in HELORA_CHROMIUM", allow_module_level=True)

ASKED, MOST = "where is the lighthouse?", 12
SITES = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (32, 64), "mlp.down_proj": (64, 96)}
RUN = """(async () => {
  const {Private} = await import('/web/chat/private.js');
  const told = [];
  const own = new Private(message => told.push(message), {positions: 100});
  await own.open({server: location.href, base: new URL('base/', location.href).href});
  await own.say(%r, %d);
  const {ids, done} = told.find(message => message.done);
  own.forget();
  await own.say(%r, 2);
  own.close();
  return {ids, done, again: told.at(-1).ids, ready: told.find(message => message.ready).ready};
})()"""


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        f"helora_serve_tests_model_{name}", Path(__file__).parent / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _beside("tiny")


@pytest.fixture(scope="module")
def modules() -> dict[str, LoRAModule]:
    rng = np.random.default_rng(3)
    names = {f"model.layers.{layer}.{site}": shape for layer in range(2) for site, shape in SITES.items()}
    return {
        name: LoRAModule(name, rng.normal(size=(4, d_in)) / 8, rng.normal(size=(d_out, 4)) / 2, 1.0)
        for name, (d_out, d_in) in names.items()
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    convert(tiny.saved(folder / "model"), folder / "base", weights="f32")
    return folder / "base"


@pytest.fixture(scope="module")
def compiled(modules: dict[str, LoRAModule]) -> CompiledLoRA:
    return compile(LoRAAdapter(modules, "test"), backend="rns", packing="rank_bsgs", tokens=(1, 16))


@pytest.fixture(scope="module")
def host(compiled: CompiledLoRA, base: Path) -> Iterator[Host]:
    with _served(compiled, base) as running:
        yield running


def _served(compiled: CompiledLoRA | dict[str, CompiledLoRA], pages: Path) -> Host:
    once = fixed(Server(compiled))
    service = Service(lambda batches: once(), limits=Limits(), access=Access(None), state=State(None))
    return Host(service, pages=pages)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    program = find_chromium()
    assert program is not None, "HELORA_REQUIRE_BROWSER is set, and there is no Chromium"
    with Chromium(program, tmp_path / "profile") as running:
        running.call("Network.disable")  # which would send the megabytes of keys here too
        yield running


def test_answers_prepared_ahead_of_time_are_the_same(
    browser: Chromium, modules: dict[str, LoRAModule], base: Path
) -> None:
    few = {name: module for name, module in modules.items() if ".0.self_attn." in name}
    constraints = Constraints(assume=frozenset({Assumption.HONEST_KEYS}), target_bits=10)
    ahead = compile(LoRAAdapter(few, "test"), backend="rns", packing="precomputed", constraints=constraints)
    with _served({"default.ahead": ahead}, base) as host:
        browser.open(f"{host.url}/")
        browser.wait("document.getElementById('size').textContent !== ''")
        found = browser.evaluate((RUN % (ASKED, MOST, ASKED)).replace("location.href,", "location.href, ahead: 40,"))
    deltas = {name: module.scaled_up @ module.down for name, module in few.items()}
    assert found["ids"] == tiny.answer_of(ASKED, MOST, deltas) != tiny.answer_of(ASKED, MOST)
    assert found["again"] == found["ids"][:2]  # for which the pool did not last: it was filled again
    assert found["done"]["up"] < 1 << 20


def _complaints(browser: Chromium) -> list[str]:
    """Errors that the page logged, but for the server's answer that it does not have these keys yet."""
    return [each for each in browser.complaints if "404" not in each or "/v1/keys/" not in each]


def test_answers_are_those_of_the_adapter_in_the_clear(
    browser: Chromium, host: Host, modules: dict[str, LoRAModule]
) -> None:
    browser.open(f"{host.url}/")
    browser.wait("document.getElementById('size').textContent !== ''")
    found = browser.evaluate(RUN % (ASKED, MOST, ASKED))
    deltas = {name: module.scaled_up @ module.down for name, module in modules.items()}
    expected = tiny.answer_of(ASKED, MOST, deltas)
    assert expected != tiny.answer_of(ASKED, MOST)  # the adapter matters
    assert found["ids"] == expected
    assert found["again"] == expected[:2]
    assert found["done"]["prompt"] == len(tiny.prompt_of(ASKED))
    assert found["ready"]["mode"] == "client-key"
    assert found["ready"]["modules"] == len(modules)
    assert _complaints(browser) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_answers_keeps_to_its_server_and_fits(
    browser: Chromium, host: Host, width: int, tmp_path: Path
) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 700)
    browser.open(f"{host.url}/")
    browser.wait("document.getElementById('size').textContent !== ''")
    browser.click("#load")
    browser.wait("!document.getElementById('form').hidden")
    browser.evaluate(
        f"document.getElementById('input').value = {ASKED!r}; document.getElementById('form').requestSubmit()"
    )
    browser.wait("!document.getElementById('send').disabled && document.querySelector('.assistant')")
    assert int(browser.evaluate("document.getElementById('messages').textContent")) > 0
    assert "tokens" in browser.evaluate("document.getElementById('figures').textContent")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert len(browser.screenshot(tmp_path / "page.png")) > 0
    hosts = "performance.getEntriesByType('resource').map(each => new URL(each.name).host)"
    assert set(browser.evaluate(hosts)) == {host.url.split("/")[2]}
    assert _complaints(browser) == []


def test_a_server_that_is_gone_is_said_to_be(browser: Chromium, compiled: CompiledLoRA, base: Path) -> None:
    with _served(compiled, base) as host:
        browser.open(f"{host.url}/")
        browser.wait("document.getElementById('size').textContent !== ''")
    browser.click("#load")
    browser.wait("document.getElementById('status').classList.contains('fault')")
    assert browser.evaluate("document.getElementById('status').textContent").startswith("The server does not answer.")
    assert browser.evaluate("document.getElementById('load').disabled") is False
