"""The private page in headless Chromium, under its policy: base model, keys and conversation in the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.request import Constraints
from helora_core.parties.compile import compile
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.privacy.leakage import Assumption
from helora_serve.host import Host
from tests.harness.history.chromium import Chromium

Serving = Callable[..., Host]
ASKED, MOST = "where is the lighthouse?", 12
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


@pytest.fixture(scope="module")
def compiled(modules: dict[str, LoRAModule]) -> CompiledLoRA:
    return compile(LoRAAdapter(modules, "test"), backend="rns", packing="rank_bsgs", tokens=(1, 16))


@pytest.fixture(scope="module")
def host(compiled: CompiledLoRA, served: Serving, base: Path) -> Iterator[Host]:
    with served(compiled, base) as running:
        yield running


def test_answers_prepared_ahead_of_time_are_the_same(
    browser: Chromium, modules: dict[str, LoRAModule], served: Serving, base: Path, tiny: ModuleType
) -> None:
    few = {name: module for name, module in modules.items() if ".0.self_attn." in name}
    constraints = Constraints(assume=frozenset({Assumption.HONEST_KEYS}), target_bits=10)
    ahead = compile(LoRAAdapter(few, "test"), backend="rns", packing="precomputed", constraints=constraints)
    with served({"default.ahead": ahead}, base) as host:
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
    browser: Chromium, host: Host, modules: dict[str, LoRAModule], tiny: ModuleType
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
    browser.wait("document.querySelector('.assistant')?.textContent.length > 5")
    browser.click("#stop")  # the rest would be more of the same
    browser.wait("!document.getElementById('send').disabled")
    assert int(browser.evaluate("document.getElementById('messages').textContent")) > 0
    assert "tokens" in browser.evaluate("document.getElementById('figures').textContent")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert len(browser.screenshot(tmp_path / "page.png")) > 0
    hosts = "performance.getEntriesByType('resource').map(each => new URL(each.name).host)"
    assert set(browser.evaluate(hosts)) == {host.url.split("/")[2]}
    assert _complaints(browser) == []


def test_a_server_that_is_gone_is_said_to_be(
    browser: Chromium, compiled: CompiledLoRA, served: Serving, base: Path
) -> None:
    with served(compiled, base) as host:
        browser.open(f"{host.url}/")
        browser.wait("document.getElementById('size').textContent !== ''")
        browser.evaluate("import('/web/wasm.js').then(module => { globalThis.wasm = module; })")
    browser.click("#load")  # whether or not the page's worker had been loaded
    browser.wait("document.getElementById('status').classList.contains('fault')")
    assert browser.evaluate("document.getElementById('status').textContent").startswith("The server does not answer.")
    assert browser.evaluate("document.getElementById('load').disabled") is False
    # Of a build that could not be read nobody says that it does not work here.
    assert browser.evaluate("wasm.loadMachine().catch(error => error.constructor.name)") == "TypeError"


def test_the_page_keeps_its_keys_until_it_is_told_to_forget_everything(browser: Chromium, host: Host) -> None:
    def loaded() -> None:
        browser.open(f"{host.url}/")
        browser.wait("document.getElementById('size').textContent !== ''")
        browser.click("#load")
        browser.wait("!document.getElementById('form').hidden")

    kept = """(async () => {
      const {openDatabase, settled} = await import('/web/database.js');
      const database = await openDatabase(), vault = database.transaction('vault').objectStore('vault');
      const keys = await settled(vault.getAllKeys());
      database.close();
      return keys.length;
    })()"""
    loaded()
    loaded()
    assert browser.evaluate(kept) == 2  # the vault's key, and what it encrypts
    loaded()
    browser.click("#form .erase")
    browser.wait("document.getElementById('form')?.hidden")
    assert browser.evaluate("indexedDB.databases().then(all => all.map(each => each.name))") == ["helora-base"]
    assert _complaints(browser) == []
